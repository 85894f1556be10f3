-- Publishing from any SQL client, within its own transaction.

-- One header, or nothing if it has no value.
create function {s}.header(name text, value bytea) returns bytea language sql stable as $$
    select int2send(octet_length(convert_to(name, 'UTF8'))::int2) || convert_to(name, 'UTF8')
        || int4send(octet_length(value)) || value
$$;

-- Headers from names and values.
create function {s}.pack(names text[], vals bytea[]) returns bytea language sql stable as $$
    select coalesce(string_agg({s}.header(n, v), ''::bytea order by o), ''::bytea)
    from unnest(names, vals) with ordinality u (n, v, o)
$$;

-- Names and values of headers.
create function {s}.unpack(headers bytea) returns table (name text, value bytea)
language plpgsql stable as $$
declare
    at int := 0;
    size int;
begin
    while at < octet_length(headers) loop
        size := (get_byte(headers, at) << 8) + get_byte(headers, at + 1);
        name := convert_from(substr(headers, at + 3, size), 'UTF8');
        at := at + 2 + size;
        size := ('x' || encode(substr(headers, at + 1, 4), 'hex'))::bit(32)::int;
        value := substr(headers, at + 5, size);
        at := at + 4 + size;
        return next;
    end loop;
end
$$;

-- The identity by which copies are recognised: a canonical UUID itself, else a hash of source and
-- id with the bits of a UUID of version 8.
create function {s}.identity(source text, id text) returns uuid language plpgsql stable as $$
declare
    hash bytea;
begin
    if id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then
        return id::uuid;
    end if;
    select sha256(string_agg(int8send(octet_length(p)) || p, ''::bytea order by o)) into hash
    from unnest(array['identity'::bytea, convert_to(source, 'UTF8'), convert_to(id, 'UTF8')])
        with ordinality u (p, o);
    hash := set_byte(hash, 6, (get_byte(hash, 6) & 15) | 128);
    hash := set_byte(hash, 8, (get_byte(hash, 8) & 63) | 128);
    return encode(substr(hash, 1, 16), 'hex')::uuid;
end
$$;

-- Stores bytes and headers as they are. Returns the id, or null if the topic has a copy already.
create function {s}.write(
    topic text, key bytea, headers bytea, payload bytea, event uuid default gen_random_uuid()
) returns bigint language plpgsql as $$
declare
    found_topic {s}.topics;
    stored bigint;
begin
    select t.* into found_topic from {s}.topics t where t.name = write.topic;
    if not found then
        raise exception 'topic "%" does not exist', write.topic
            using errcode = 'undefined_object', hint = 'create it first';
    end if;
    if exists (
        select from {s}.copies_old c
        where c.topic = found_topic.id and c.event = write.event
    ) then
        return null;
    end if;
    insert into {s}.copies_new values (found_topic.id, write.event) on conflict do nothing;
    if not found then
        return null;
    end if;
    insert into {s}.log (topic, part, key, headers, payload) values (
        found_topic.id,
        case when write.key is null then floor(random() * found_topic.parts)
             else {s}.part(write.key, found_topic.parts) end,
        write.key, write.headers, write.payload
    ) returning id into stored;
    return stored;
end
$$;

-- Publishes a CloudEvent. Events of one key are read in the order of the calls: lock or write the
-- row that they are about first, then publish.
create function {s}.publish_bytes(
    topic text, type text, payload bytea, key text default null, source text default null,
    id text default null, subject text default null, content_type text default null,
    attributes jsonb default '{}'
) returns bigint language plpgsql as $$
declare
    event_id text := coalesce(id, gen_random_uuid()::text);
    event_source text := coalesce(source, '/' || current_database());
    at text := to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
    packed bytea;
begin
    if publish_bytes.topic ~ '\.(retry|dlq)$' then
        raise exception 'topic "%" has a reserved ending', publish_bytes.topic
            using errcode = 'invalid_parameter_value';
    end if;
    if exists (
        select from unnest(array[event_id, event_source, publish_bytes.type, subject, content_type])
        with ordinality u (t, o)
        where t = '' or t ~ '[[:cntrl:]]'
            or octet_length(t) > case when o = 1 then 128 else 1024 end
    ) then
        raise exception 'id, source, type, subject or content type is empty, too long or not printable'
            using errcode = 'invalid_parameter_value';
    end if;
    if octet_length(publish_bytes.payload) > 1048576 or octet_length(key) > 65536 then
        raise exception 'the payload exceeds 1 MiB or the key 64 KiB'
            using errcode = 'program_limit_exceeded';
    end if;
    if exists (
        select from jsonb_each_text(attributes) a
        where a.key !~ '^[a-z0-9]{1,64}$' or a.value ~ '[[:cntrl:]]'
            or a.key in ('id', 'source', 'specversion', 'type', 'datacontenttype', 'dataschema',
                'subject', 'time', 'data', 'database64', 'partitionkey', 'interlinekey',
                'interlineheaders')
    ) then
        raise exception 'an attribute has an illegal name or value'
            using errcode = 'invalid_parameter_value';
    end if;
    select string_agg({s}.header(n, convert_to(v, 'UTF8')), ''::bytea order by o) into packed
    from (
        select * from (values
            (1, 'ce_specversion', '1.0'), (2, 'ce_id', event_id), (3, 'ce_source', event_source),
            (4, 'ce_type', publish_bytes.type), (5, 'content-type', content_type), (6, 'ce_time', at),
            (7, 'ce_subject', subject),
            (8, 'ce_partitionkey',
                case when publish_bytes.key <> '' and publish_bytes.key !~ '[[:cntrl:]]'
                     then publish_bytes.key end)
        ) core (o, n, v)
        union all
        select 9, 'ce_' || a.key, a.value from jsonb_each_text(attributes) a
    ) every
    where v is not null;
    return {s}.write(
        publish_bytes.topic, convert_to(publish_bytes.key, 'UTF8'), packed, publish_bytes.payload,
        {s}.identity(event_source, event_id));
end
$$;

-- The same for a payload of JSON.
create function {s}.publish(
    topic text, type text, payload jsonb, key text default null, source text default null,
    id text default null, subject text default null, attributes jsonb default '{}'
) returns bigint language sql as $$
    select {s}.publish_bytes(
        topic, type, convert_to(payload::text, 'UTF8'), key, source, id, subject,
        'application/json', attributes)
$$;
