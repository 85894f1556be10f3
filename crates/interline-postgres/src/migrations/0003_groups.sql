-- Groups: who owns which partition, and how far it has come. All times are the server's.

create table {s}.members (
    grp text collate "C" not null,
    topic int not null,
    member text collate "C" not null,
    expires timestamptz not null,
    leaving boolean not null default false,
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
