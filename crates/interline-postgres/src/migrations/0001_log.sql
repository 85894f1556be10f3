-- The log, its topics and what recognises copies. `{s}` is the schema.

create table {s}.topics (
    id int generated always as identity primary key,
    name text collate "C" not null unique,
    parts int not null check (parts between 1 and 4096),
    -- Milliseconds.
    retention bigint not null check (retention > 0),
    created_at timestamptz not null default clock_timestamp()
);

-- One row: what there is once.
create table {s}.meta (
    single boolean primary key default true check (single),
    -- When the present generations of copies and of the inbox were begun.
    copies_at timestamptz not null default clock_timestamp(),
    inbox_at timestamptz not null default clock_timestamp()
);
insert into {s}.meta default values;

-- Ids after `after_id` were given by the server of this row, up to the next row. A restored or
-- promoted server may give an id again that was given before to another event.
create table {s}.incarnations (
    number int primary key,
    system_identifier bigint not null,
    timeline int not null,
    after_id bigint not null
);

create sequence {s}.log_id as bigint cache 1;

-- The last id that was given; 0 before the first. Never `select last_value`: while the server logs
-- a sequence ahead, once in 32 ids, its row shows the id to which it logs, and whoever selects it
-- takes no lock that would hide that. A horizon made of it passes ids that are yet to be given.
create function {s}.last_id() returns bigint language sql volatile as $$
    select coalesce(pg_sequence_last_value('{s}.log_id'::regclass), 0)
$$;

-- The incarnations, with one for the present server if it has none yet.
create function {s}.incarnation() returns setof {s}.incarnations language plpgsql as $$
declare
    system bigint := (select s.system_identifier from pg_control_system() s);
    line int := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int;
begin
    if (
        select (i.system_identifier, i.timeline) is distinct from (system, line)
        from (values (0)) one left join {s}.incarnations i on true
        order by i.number desc nulls last limit 1
    ) then
        lock table {s}.incarnations in share row exclusive mode;
        insert into {s}.incarnations
            select coalesce(max(i.number), 0) + 1, system, line, {s}.last_id()
            from {s}.incarnations i
            having (array_agg((i.system_identifier, i.timeline) order by i.number desc))[1]
                is distinct from (system, line);
    end if;
    return query select i.* from {s}.incarnations i order by i.number;
end
$$;

-- The transaction has its own id before it takes one of the log: a reader that sees every
-- transaction older than some moment ended knows then that all ids of that moment are decided.
create function {s}.next_id() returns bigint language sql volatile as $$
    select case when pg_current_xact_id() is not null then nextval('{s}.log_id'::regclass) end
$$;

-- Without `search_path` and without an index on id alone: the one would keep the default from
-- being inlined, the other would be chosen for readings and make them half as fast.
create table {s}.log (
    topic int not null,
    part smallint not null,
    id bigint not null default {s}.next_id(),
    created_at timestamptz not null default clock_timestamp(),
    key bytea,
    -- Pairs of names and values: 2 bytes of length, name, 4 bytes of length, value.
    headers bytea not null,
    payload bytea,
    primary key (topic, part, id)
) partition by range (id);

-- Compressing costs more than it saves where payloads are small, and large ones mostly are
-- compressed already.
alter table {s}.log alter column payload set storage external;

-- The ranges of the log. Range `number` has the ids from number << 40 on: more than can ever be
-- given, so that a range ends when `next_range` says so and not when it is full.
create table {s}.ranges (
    number bigint primary key,
    -- When its first id could be given; null before.
    begun_at timestamptz,
    -- A transaction that began when its last id had been given; null before.
    ended_by xid8,
    -- No topic keeps any of its events: it is being dropped.
    dropping boolean not null default false
);

create function {s}.add_range(number bigint) returns void language plpgsql as $$
begin
    if exists (select from {s}.ranges r where r.number = add_range.number) then
        return;
    end if;
    insert into {s}.ranges (number) values (add_range.number);
    execute format('create table {s}.log_%s (like {s}.log including all)', number);
    -- A superuser may have come by; the next one may be the owner.
    execute format('alter table {s}.log_%s owner to %s', number,
        (select c.relowner::regrole from pg_class c where c.oid = '{s}.log'::regclass));
    -- `attach` lets publishing go on, which `create table .. partition of` would stop.
    execute format(
        'alter table {s}.log attach partition {s}.log_%s for values from (%s) to (%s)',
        number, number << 40, (number + 1) << 40);
end
$$;

-- Begins the next range, unless the present one is empty: the ids that follow are in it.
create function {s}.next_range() returns boolean language plpgsql as $$
declare
    last bigint;
    next bigint;
begin
    -- Two calls at once would set the sequence back under ids given in between.
    perform pg_advisory_xact_lock('{s}.log'::regclass::int, 1);
    last := {s}.last_id();
    next := (last >> 40) + 1;
    if last <= (next - 1) << 40 then
        return false;
    end if;
    perform {s}.add_range(next), {s}.add_range(next + 1);
    perform setval('{s}.log_id'::regclass, next << 40);
    update {s}.ranges r set begun_at = clock_timestamp() where r.number = next;
    return true;
end
$$;

select {s}.add_range(0), {s}.add_range(1);
update {s}.ranges set begun_at = clock_timestamp() where number = 0;

-- Where what a topic keeps begins: the last id of a partition that is beyond its retention. The
-- event is gone for every reader, and its space comes back when its range is dropped.
create table {s}.retained (
    topic int not null,
    part smallint not null,
    id bigint not null,
    primary key (topic, part)
);

-- Identities of the last 24 to 48 hours, in two generations.
create table {s}.copies_new (
    topic int not null,
    event uuid not null,
    primary key (topic, event)
);
create table {s}.copies_old (like {s}.copies_new including all);

-- The partition of a key: the first four bytes of its SHA-256.
create function {s}.part(key bytea, parts int) returns int language sql immutable as $$
    select (('x' || encode(substr(sha256(key), 1, 4), 'hex'))::bit(32)::bigint % parts)::int
$$;
