-- Refuses while sessions exist, unless forced. The lock comes first, so that nobody adds one meanwhile; the
-- owner is bound by the policies too and would count no rows at all.
lock table public.telegram_sessions in access exclusive mode;
alter table public.telegram_sessions no force row level security;
do $$ begin
  if coalesce(current_setting('usm.force_down', true), '') <> 'on'
     and exists (select from public.telegram_sessions) then
    raise exception using errcode = 'UM001', message = 'sessions exist';
  end if;
end $$;
drop table usm.settings;
drop table usm.session_events;
drop table usm.session_material;
drop table public.telegram_sessions;
drop policy bookkeeping on usm.seaql_migrations;
alter table usm.seaql_migrations no force row level security;
alter table usm.seaql_migrations disable row level security;
revoke all on usm.seaql_migrations from service_role;
drop function usm.tenant();
