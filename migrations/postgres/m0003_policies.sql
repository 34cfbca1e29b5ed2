-- Whose rows a request may touch, as one expression: a statement takes it over, where the former body was a function call,
-- planned anew for every table of every statement. All names are qualified, so no search path can change them. As before:
-- no claims, an empty or a contradictory tenant are nobody's.
create or replace function usm.tenant() returns text language sql stable as $$
  select case
    when nullif(nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::pg_catalog.jsonb
           operator(pg_catalog.->>) 'tenant_id', '')
         operator(pg_catalog.<>)
         nullif(nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::pg_catalog.jsonb
           operator(pg_catalog.#>>) '{app_metadata,tenant_id}', '')
    then null
    else coalesce(
      nullif(nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::pg_catalog.jsonb
        operator(pg_catalog.->>) 'tenant_id', ''),
      nullif(nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::pg_catalog.jsonb
        operator(pg_catalog.#>>) '{app_metadata,tenant_id}', ''))
  end
$$;
alter function usm.tenant() reset all;

-- As in the first migration: what default privileges handed out is taken back before rights are given.
do $$ declare thing record; begin
  for thing in
    select c.oid::regclass as name, case when a.grantee = 0 then 'public' else quote_ident(r.rolname) end as grantee
    from pg_catalog.pg_class c
    cross join lateral pg_catalog.aclexplode(c.relacl) a
    left join pg_catalog.pg_roles r on r.oid = a.grantee
    where c.oid in ('usm.lease_waits'::regclass, 'usm.paces'::regclass) and a.grantee <> c.relowner
    group by 1, 2
  loop
    execute format('revoke all on %s from %s', thing.name, thing.grantee);
  end loop;
end $$;

alter table usm.lease_waits enable row level security;
alter table usm.lease_waits force row level security;
alter table usm.paces enable row level security;
alter table usm.paces force row level security;

create policy tenant_isolation on usm.lease_waits for all to usm_tenant
  using (tenant_id = (select usm.tenant())) with check (tenant_id = (select usm.tenant()));
create policy service_role_bypass on usm.lease_waits for all to service_role using (true) with check (true);
grant select, insert, update, delete on usm.lease_waits to usm_tenant, service_role;

-- No tenant's data, and no tenant's business.
create policy service_role_bypass on usm.paces for all to service_role using (true) with check (true);
grant select, insert, update, delete on usm.paces to service_role;
