-- The schema that the program keeps to itself. `create schema if not exists` asks for rights even where the
-- schema is there already, hence the question first.
do $$ begin
  if to_regnamespace('usm') is null then
    execute 'create schema usm';
  end if;
end $$;
