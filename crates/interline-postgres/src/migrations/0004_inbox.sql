-- What groups have handled, in two generations of seven days, and what they are handling.

create table {s}.inbox_new (
    grp text collate "C" not null,
    event uuid not null,
    primary key (grp, event)
);
create table {s}.inbox_old (like {s}.inbox_new including all);

create table {s}.inbox_claims (
    grp text collate "C" not null,
    event uuid not null,
    expires timestamptz not null,
    primary key (grp, event)
);

-- Marks an event as done, in the transaction of the caller; false if it was. Of two at a time the
-- second waits for the end of the first.
create function {s}.enter(grp text, event uuid) returns boolean language plpgsql as $$
begin
    if exists (select from {s}.inbox_old i where i.grp = enter.grp and i.event = enter.event) then
        return false;
    end if;
    insert into {s}.inbox_new values (enter.grp, enter.event) on conflict do nothing;
    return found;
end
$$;

-- Claims an event for some milliseconds: 0 if it is claimed now, -1 if it was done, else how long
-- another claim lasts.
create function {s}.claim_event(grp text, event uuid, lease bigint) returns bigint
language plpgsql as $$
declare
    now_ timestamptz := clock_timestamp();
    until timestamptz;
begin
    if exists (
        select from {s}.inbox_new i where i.grp = claim_event.grp and i.event = claim_event.event
        union all
        select from {s}.inbox_old i where i.grp = claim_event.grp and i.event = claim_event.event
    ) then
        return -1;
    end if;
    insert into {s}.inbox_claims as c
        values (claim_event.grp, claim_event.event, now_ + lease * interval '1 millisecond')
        on conflict on constraint inbox_claims_pkey
        do update set expires = excluded.expires where c.expires <= now_;
    if found then
        return 0;
    end if;
    select c.expires into until from {s}.inbox_claims c
        where c.grp = claim_event.grp and c.event = claim_event.event;
    return greatest(1, ceil(extract(epoch from coalesce(until, now_) - now_) * 1000)::bigint);
end
$$;

-- Marks a claimed event as done.
create function {s}.event_done(grp text, event uuid) returns void language plpgsql as $$
begin
    perform {s}.enter(grp, event);
    delete from {s}.inbox_claims c where c.grp = event_done.grp and c.event = event_done.event;
end
$$;
