-- Who may do what: grants.md says why. Run once, by a superuser, through psql.
create role interline_owner login password '@PASSWORD@';
create role interline login password '@PASSWORD@';
create database interline owner interline_owner;
revoke all on database interline from public;
grant connect, temporary on database interline to interline;

\connect interline
revoke create on schema public from public;
create schema interline authorization interline_owner;
grant usage on schema interline to interline;
alter default privileges for role interline_owner in schema interline
  grant select, insert, update, delete on tables to interline;
alter default privileges for role interline_owner in schema interline
  grant usage, select on sequences to interline;
