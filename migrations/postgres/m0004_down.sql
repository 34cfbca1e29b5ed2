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
alter table public.telegram_sessions drop column mirrored;
