-- Groups: who owns which partition, and how far it has come. All times are the server's.

create table {s}.members (
    grp text collate "C" not null,
    topic int not null,
    member text collate "C" not null,
    expires timestamptz not null,
    leaving boolean not null default false,
    -- It has left: a look of its that comes late does not bring it back.
    gone boolean not null default false,
    primary key (grp, topic, member)
);

create table {s}.owners (
    grp text collate "C" not null,
    topic int not null,
    part smallint not null,
    fence bigint not null default 0,
    member text collate "C",
    expires timestamptz,
    passing boolean not null default false,
    free_since timestamptz not null default clock_timestamp(),
    -- When an owner last renewed it: retention spares what a group has yet to read only while
    -- the group lives.
    touched timestamptz not null default clock_timestamp(),
    -- The id of the frontier, and the whole progress as text; null before the first checkpoint.
    frontier bigint,
    progress text,
    primary key (grp, topic, part)
) with (fillfactor = 50);

-- One change of a group on a topic at a time.
create function {s}.lock_group(grp text, topic int) returns void language plpgsql as $$
begin
    if not exists (select from {s}.topics t where t.id = topic) then
        raise exception 'the topic was deleted' using errcode = 'IL001';
    end if;
    perform pg_advisory_xact_lock('{s}.owners'::regclass::int, hashtext(grp || '/' || topic));
end
$$;

-- Makes a group known on a topic, with a checkpoint in every partition, unless it is known.
create function {s}.begin_group(
    grp text, topic int, frontiers bigint[], progress text[]
) returns void language plpgsql as $$
begin
    perform {s}.lock_group(grp, topic);
    if exists (
        select from {s}.owners o where o.grp = begin_group.grp and o.topic = begin_group.topic
    ) then
        return;
    end if;
    insert into {s}.owners (grp, topic, part, frontier, progress)
        select begin_group.grp, begin_group.topic, p.o - 1, p.f, p.s
        from unnest(frontiers, begin_group.progress) with ordinality p (f, s, o);
end
$$;

-- Shows that a member lives, renews what it owns, and tells how the group stands; no row if the
-- group is not known. Times are milliseconds.
create function {s}.look(grp text, topic int, me text, lease bigint, is_leaving boolean)
returns table (
    live text[], owner text[], fence bigint[], is_passing boolean[], free_for bigint[],
    token bigint[], next_expiry bigint
) language plpgsql as $$
declare
    now_ timestamptz;
    over_ timestamptz;
begin
    perform {s}.lock_group(grp, topic);
    now_ := clock_timestamp();
    over_ := now_ + look.lease * interval '1 millisecond';
    if not exists (select from {s}.owners o where o.grp = look.grp and o.topic = look.topic) then
        return;
    end if;
    insert into {s}.members as m values (look.grp, look.topic, look.me, over_, look.is_leaving)
        on conflict on constraint members_pkey
        do update set expires = excluded.expires, leaving = excluded.leaving where not m.gone;
    delete from {s}.members m
        where m.grp = look.grp and m.topic = look.topic and m.expires < now_ - interval '1 minute';
    perform from {s}.owners o
        where o.grp = look.grp and o.topic = look.topic and o.member = look.me
        order by o.part for update;
    update {s}.owners o set expires = over_, touched = now_
        where o.grp = look.grp and o.topic = look.topic and o.member = look.me;
    return query
        select
            (select coalesce(array_agg(m.member), '{}') from {s}.members m
                where m.grp = look.grp and m.topic = look.topic and m.expires > now_
                    and not m.leaving),
            array_agg(case when o.expires > now_ then o.member end order by o.part),
            array_agg(o.fence order by o.part),
            array_agg(o.passing and coalesce(o.expires > now_, false) order by o.part),
            array_agg(case when o.expires > now_ then 0
                else (extract(epoch from now_ - coalesce(o.expires, o.free_since)) * 1000)::bigint
                end order by o.part),
            array_agg(coalesce((extract(epoch from o.expires) * 1000000)::bigint, 0)
                order by o.part),
            (select ceil(extract(epoch from min(e.expires) - now_) * 1000)::bigint from (
                select m.expires from {s}.members m
                    where m.grp = look.grp and m.topic = look.topic and m.member <> look.me
                        and m.expires > now_
                union all
                select x.expires from {s}.owners x
                    where x.grp = look.grp and x.topic = look.topic and x.member <> look.me
                        and x.expires > now_) e)
        from {s}.owners o where o.grp = look.grp and o.topic = look.topic;
end
$$;

-- Takes partitions that still stand as they were seen.
create function {s}.claim(
    grp text, topic int, me text, lease bigint, parts smallint[], fences bigint[], tokens bigint[]
) returns table (part smallint, fence bigint, progress text) language plpgsql as $$
declare
    now_ timestamptz;
begin
    perform {s}.lock_group(grp, topic);
    now_ := clock_timestamp();
    perform from {s}.owners o
        where o.grp = claim.grp and o.topic = claim.topic and o.part = any (claim.parts)
        order by o.part for update;
    return query
        update {s}.owners o set
            member = claim.me, fence = o.fence + 1, passing = false, touched = now_,
            expires = now_ + claim.lease * interval '1 millisecond'
        from unnest(claim.parts, claim.fences, claim.tokens) seen (part, fence, token)
        where o.grp = claim.grp and o.topic = claim.topic and o.part = seen.part
            and o.fence = seen.fence
            and coalesce((extract(epoch from o.expires) * 1000000)::bigint, 0) = seen.token
        returning o.part, o.fence, o.progress;
end
$$;

-- Notes that partitions will be released.
create function {s}.revoke(grp text, topic int, me text, parts smallint[], fences bigint[])
returns void language plpgsql as $$
begin
    perform {s}.lock_group(grp, topic);
    perform from {s}.owners o
        where o.grp = revoke.grp and o.topic = revoke.topic and o.part = any (revoke.parts)
        order by o.part for update;
    update {s}.owners o set passing = true
        from unnest(revoke.parts, revoke.fences) owned (part, fence)
        where o.grp = revoke.grp and o.topic = revoke.topic and o.part = owned.part
            and o.fence = owned.fence and o.member = revoke.me;
end
$$;

-- Stores checkpoints under member and fence, and with `release` gives the partitions up. A null
-- progress leaves the stored one. Tells which were stored.
create function {s}.store_progress(
    grp text, topic int, me text, parts smallint[], fences bigint[], frontiers bigint[],
    texts text[], release boolean
) returns setof smallint language plpgsql as $$
begin
    if not exists (select from {s}.topics t where t.id = store_progress.topic) then
        raise exception 'the topic was deleted' using errcode = 'IL001';
    end if;
    perform from {s}.owners o
        where o.grp = store_progress.grp and o.topic = store_progress.topic
            and o.part = any (store_progress.parts)
        order by o.part for update;
    return query
        update {s}.owners o set
            progress = coalesce(p.progress, o.progress),
            frontier = case when p.progress is null then o.frontier else p.frontier end,
            touched = clock_timestamp(),
            member = case when store_progress.release then null else o.member end,
            expires = case when store_progress.release then null else o.expires end,
            passing = o.passing and not store_progress.release,
            free_since =
                case when store_progress.release then clock_timestamp() else o.free_since end
        from unnest(store_progress.parts, fences, frontiers, texts)
            p (part, fence, frontier, progress)
        where o.grp = store_progress.grp and o.topic = store_progress.topic and o.part = p.part
            and o.fence = p.fence and o.member = store_progress.me
        returning o.part;
end
$$;

-- Removes a member; what it owns is free.
create function {s}.leave(grp text, topic int, me text) returns void language plpgsql as $$
begin
    perform {s}.lock_group(grp, topic);
    insert into {s}.members values (leave.grp, leave.topic, leave.me, clock_timestamp(), true, true)
        on conflict on constraint members_pkey
        do update set expires = excluded.expires, leaving = true, gone = true;
    perform from {s}.owners o
        where o.grp = leave.grp and o.topic = leave.topic and o.member = leave.me
        order by o.part for update;
    update {s}.owners o set
        member = null, expires = null, passing = false, free_since = clock_timestamp()
        where o.grp = leave.grp and o.topic = leave.topic and o.member = leave.me;
end
$$;
