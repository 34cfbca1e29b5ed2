-- Refuses on the same terms as the migrations before it, so that a refusal leaves everything in place.
lock table public.telegram_sessions in access exclusive mode;
alter table public.telegram_sessions no force row level security;
do $$ begin
  if coalesce(current_setting('usm.force_down', true), '') <> 'on'
     and exists (select from public.telegram_sessions) then
    raise exception using errcode = 'UM001', message = 'sessions exist';
  end if;
end $$;
alter table public.telegram_sessions force row level security;
drop table usm.lease_waits;
drop table usm.paces;
alter table public.telegram_sessions reset (fillfactor);
create index telegram_sessions_lease_end on public.telegram_sessions (lease_expire_time);
alter table public.telegram_sessions drop column lease_drain_reason;
