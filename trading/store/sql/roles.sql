-- Who may do what. Loaded after the functions, by the newest migration; the roles are there by then (make_roles.sql).
--
-- Nobody writes a table of the ledger but its owner, who cannot log in: the functions below run as the owner, and each role
-- may call some of them with some changes. Candles apart, which decide inserts: facts of the market, never changed.

-- ------------------------------------------------------------------------------------------------ who asks, for what

-- The role that this session acts in: the one that it set, else its own login.
create function keel.acting_role() returns text language sql stable as $$
  select coalesce(nullif(current_setting('role'), 'none'), session_user::text)
$$;

-- What a role may write by keel.record. A role that is not named here writes nothing, a superuser's own included.
create function keel.changes_of(p_role text) returns text[] language sql immutable as $$
  select case p_role
    when 'keel_decide' then '{configuration,portfolios,accounts,decisions,evaluations,intents,holds,verdicts,operations,equity,
                              cycles,breakers,transactions,postings}'::text[]
    when 'keel_execute' then '{events,fills,transactions,postings,lots,matches,holds,accounts,operations,breaks}'
    when 'keel_reconcile' then '{events,fills,transactions,postings,lots,matches,holds,accounts,operations,breaks,
                                 reconciliations,venue_orders,venue_balances,movements,breakers,anchors,ramp_steps}'
    when 'keel_human' then '{configuration,epochs,evaluations,breakers,resolutions,announcements,
                             transactions,postings,lots,matches,accounts,armings,ramp_steps}'
    else '{}' end
$$;

-- Why the session may not write this, or null.
create function keel.refusal(p_payload jsonb) returns text language sql stable as $$
  select case when keel.changes_of(keel.acting_role()) = '{}' then keel.acting_role() || ' writes nothing'
              when p_payload - keel.changes_of(keel.acting_role()) <> '{}'
                then keel.acting_role() || ' may not write ' || (p_payload - keel.changes_of(keel.acting_role()))::text end
$$;

-- A breaker is led out of open by a person alone. What tests it is closed at the end of the test, on that person's word.
create function keel.breaker_authority() returns trigger language plpgsql as $$
declare
  acting text := keel.acting_role();
begin
  if acting <> 'keel_human' and (new.state = 'half_open' or (old.state = 'open' and new.state <> 'open'))
     or acting = 'keel_reconcile' and new.state <> 'open' then
    raise exception '% may not move breaker % from % to %', acting, new.scope, coalesce(old.state, 'none'), new.state
      using errcode = 'KE030';
  end if;
  return new;
end $$;
create trigger breaker_authority before insert or update on keel.breaker
  for each row execute function keel.breaker_authority();
alter table keel.breaker enable always trigger breaker_authority;

-- ------------------------------------------------------------------------------------------------------ ownership

alter schema keel owner to keel_owner;
alter schema paper owner to keel_owner;
do $$ declare r record; begin
  for r in select oid::regclass as name from pg_class
           where relnamespace in ('keel'::regnamespace, 'paper'::regnamespace) and relkind in ('r', 'v')
             and relowner <> 'keel_owner'::regrole loop
    execute format('alter table %s owner to keel_owner', r.name);          -- its sequences and indexes go with it
  end loop;
  for r in select oid::regtype as name from pg_type
           where typnamespace in ('keel'::regnamespace, 'paper'::regnamespace) and typtype = 'd'
             and typowner <> 'keel_owner'::regrole loop
    execute format('alter domain %s owner to keel_owner', r.name);
  end loop;
  for r in select oid::regprocedure as name from pg_proc
           where pronamespace in ('keel'::regnamespace, 'paper'::regnamespace) loop
    execute format('revoke execute on function %s from public', r.name);
    execute format('alter function %s owner to keel_owner', r.name);
  end loop;
end $$;

-- --------------------------------------------------------------------------------------------------------- rights

grant select on public.migration to public;              -- the schema's version is asked before there is any role
grant usage on schema keel to keel_decide, keel_execute, keel_reconcile, keel_report, keel_human;
grant select on all tables in schema keel to keel_decide, keel_execute, keel_reconcile, keel_report, keel_human;
grant insert on keel.series, keel.candle to keel_decide;
grant usage on schema paper to keel_venue;
grant select on all tables in schema paper to keel_venue;

-- The functions that run as the owner find nothing by a caller's search path.
do $$ declare r record; begin
  for r in
    select p.oid::regprocedure as name, x.callers from pg_proc p join (values
      ('keel.acting_role', 'keel_decide, keel_execute, keel_reconcile, keel_report, keel_human'),
      ('keel.changes_of', 'keel_decide, keel_execute, keel_reconcile, keel_report, keel_human'),
      ('keel.armed_until', 'keel_decide, keel_execute, keel_reconcile, keel_report, keel_human'),
      ('keel.portfolio_state', 'keel_decide, keel_execute, keel_reconcile, keel_report, keel_human'),
      ('keel.sent_lately', 'keel_decide, keel_execute, keel_reconcile, keel_report, keel_human'),
      ('keel.record', 'keel_decide, keel_execute, keel_reconcile, keel_human'),
      ('keel.trip', 'keel_decide, keel_human'),
      ('keel.beat', 'keel_decide'),
      ('keel.mirrored', 'keel_decide'),
      ('keel.claim_slot', 'keel_decide'),
      ('keel.mark_sending', 'keel_execute')) as x (name, callers) on p.oid = x.name::regproc loop
    execute format('grant execute on function %s to %s', r.name, r.callers);
  end loop;
  for r in select p.oid::regprocedure as name from pg_proc p
           where p.oid in ('keel.record'::regproc, 'keel.beat'::regproc, 'keel.mirrored'::regproc, 'keel.claim_slot'::regproc,
                           'keel.mark_sending'::regproc)
              or pronamespace = 'paper'::regnamespace and proname <> 'book' loop
    execute format('alter function %s security definer set search_path = pg_catalog, pg_temp', r.name);
  end loop;
  for r in select oid::regprocedure as name from pg_proc
           where pronamespace = 'paper'::regnamespace and proname <> 'book' loop
    execute format('grant execute on function %s to keel_venue', r.name);
  end loop;
end $$;
