-- The roles, granted to the login that runs this. They belong to the whole server: they may be there already, or be made by a
-- migration of another database at this moment.
do $$ declare wanted text; begin
  foreach wanted in array '{keel_owner,keel_decide,keel_execute,keel_reconcile,keel_report,keel_human,keel_venue}'::text[] loop
    if not exists (select from pg_roles where rolname = wanted) then
      begin
        execute format('create role %I nologin', wanted);
        execute format('grant %I to %I', wanted, session_user);
      exception when duplicate_object or unique_violation then null;  -- a migration of another database was faster
      end;
    end if;
    if not pg_has_role(session_user, wanted, 'member') then
      execute format('grant %I to %I', wanted, session_user);
    end if;
  end loop;
end $$;
