-- Supabase's default privileges hand every new table in `public` to its API roles: whatever anybody but the
-- owner got is taken back, then each role gets what it needs.
do $$ declare thing record; begin
  for thing in
    select c.oid::regclass as name, case when a.grantee = 0 then 'public' else quote_ident(r.rolname) end as grantee
    from pg_catalog.pg_class c
    cross join lateral pg_catalog.aclexplode(c.relacl) a
    left join pg_catalog.pg_roles r on r.oid = a.grantee
    where c.oid in ('public.telegram_sessions'::regclass, 'usm.session_material'::regclass,
                    'usm.session_events'::regclass, 'usm.settings'::regclass, 'usm.seaql_migrations'::regclass)
      and a.grantee <> c.relowner
    group by 1, 2
  loop
    execute format('revoke all on %s from %s', thing.name, thing.grantee);
  end loop;
end $$;

-- Whose rows a request may touch. No claims, an empty or a contradictory tenant: nobody's.
create function usm.tenant() returns text language sql stable set search_path = '' as $$
  select case when claims.top is null or claims.meta is null or claims.top = claims.meta
              then coalesce(claims.top, claims.meta) end
  from (
    select nullif(jwt ->> 'tenant_id', '') as top, nullif(jwt #>> '{app_metadata,tenant_id}', '') as meta
    from (select nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::pg_catalog.jsonb as jwt) as request
  ) as claims
$$;
revoke all on function usm.tenant() from public;
grant execute on function usm.tenant() to anon, authenticated, usm_tenant, service_role;

alter table public.telegram_sessions enable row level security;
alter table public.telegram_sessions force row level security;
alter table usm.session_material enable row level security;
alter table usm.session_material force row level security;
alter table usm.session_events enable row level security;
alter table usm.session_events force row level security;
alter table usm.settings enable row level security;
alter table usm.settings force row level security;
alter table usm.seaql_migrations enable row level security;
alter table usm.seaql_migrations force row level security;

-- Sessions. The function is wrapped in a query so that it runs once per statement instead of once per row.
create policy tenant_isolation_anon on public.telegram_sessions for select to anon
  using (tenant_id = (select usm.tenant()));
create policy tenant_isolation_authenticated on public.telegram_sessions for all to authenticated, usm_tenant
  using (tenant_id = (select usm.tenant())) with check (tenant_id = (select usm.tenant()));
create policy service_role_bypass on public.telegram_sessions for all to service_role
  using (true) with check (true);

-- Other programs may read what harms nobody; leases, fingerprints, tickets and versions stay inside.
grant select (tenant_id, app_id, state, state_reason, custody, environment, telegram_user_id, username, is_bot,
              dc_id, labels, revision, create_time, update_time, last_validated_time, last_activity_time)
  on public.telegram_sessions to anon, authenticated;
grant select, insert, update, delete on public.telegram_sessions to usm_tenant, service_role;

create policy tenant_isolation on usm.session_material for all to usm_tenant
  using (tenant_id = (select usm.tenant())) with check (tenant_id = (select usm.tenant()));
create policy service_role_bypass on usm.session_material for all to service_role using (true) with check (true);
grant select, insert, update, delete on usm.session_material to usm_tenant, service_role;

-- Events are written once: nobody has the right to change or remove one.
create policy tenant_isolation_read on usm.session_events for select to usm_tenant
  using (tenant_id = (select usm.tenant()));
create policy tenant_isolation_write on usm.session_events for insert to usm_tenant
  with check (tenant_id = (select usm.tenant()));
create policy service_role_read on usm.session_events for select to service_role using (true);
create policy service_role_write on usm.session_events for insert to service_role with check (true);
grant select on usm.session_events to usm_tenant, service_role;
grant insert (tenant_id, app_id, kind, from_state, to_state, reason, actor, details, time)
  on usm.session_events to usm_tenant, service_role;

-- Settings hold no tenant's data; a tenant's request has to see whether new leases are allowed.
create policy tenant_read on usm.settings for select to usm_tenant using (true);
create policy service_role_bypass on usm.settings for all to service_role using (true) with check (true);
grant select on usm.settings to usm_tenant;
grant select, insert, update on usm.settings to service_role;

-- The owner alone writes here, by ownership; the program reads whether it fits the schema.
create policy bookkeeping on usm.seaql_migrations for all to public using (true) with check (true);
grant select on usm.seaql_migrations to service_role;
