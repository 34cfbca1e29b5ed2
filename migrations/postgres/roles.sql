-- The roles that the policies name. Supabase has the first three; plain PostgreSQL has none. Those that exist
-- are left as they are. Roles belong to the whole cluster, so another database may create them meanwhile.
do $$ declare wanted text; begin
  foreach wanted in array array['anon', 'authenticated', 'service_role', 'usm_tenant'] loop
    if not exists (select from pg_catalog.pg_roles where rolname = wanted) then
      begin
        execute format('create role %I nologin noinherit', wanted);
      exception when duplicate_object or unique_violation then null;
      end;
    end if;
  end loop;
end $$;
grant usage on schema public to anon, authenticated, service_role, usm_tenant;
revoke all on schema usm from public, anon, authenticated;
grant usage on schema usm to service_role, usm_tenant;
