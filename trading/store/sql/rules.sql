-- The rules of the ledger: its functions, triggers, views. The tables are made by the migrations; this file is loaded by the
-- newest one. A migration that changes it first keeps the old text beside itself (migrations/sql/NNNN_rules.sql).
--
-- Every change enters by one function, keel.record(kind, payload): the payload is the canonical JSON text of the change,
-- it is applied table by table below, and the same text is one row of the hash chain, all in one transaction.
-- So each transaction has exactly one audit row, and the audit log alone tells everything that was ever written.

-- -------------------------------------------------------------------------------------------- rules of the books

-- A transaction balances in every asset and has at least two lines. Deferred to the commit, one call per transaction.
create function keel.txn_balances() returns trigger language plpgsql as $$
begin
  if (select coalesce(sum(lines), 0) < 2 or bool_or(total <> 0)
      from (select count(*) as lines, sum(amount) as total from keel.posting where txn_id = new.id group by asset) x) then
    raise exception 'transaction % does not balance', new.id using errcode = 'KE010';
  end if;
  return null;
end $$;
create constraint trigger txn_balances after insert on keel.txn
  deferrable initially deferred for each row execute function keel.txn_balances();
alter table keel.txn enable always trigger txn_balances;

-- Every line belongs to a transaction of the same database transaction: none joins one that was committed, none is without.
create function keel.posting_is_timely() returns trigger language plpgsql as $$
begin
  if exists (select from added a
             where (select t.xmin from keel.txn t where t.id = a.txn_id) is distinct from pg_current_xact_id()::xid) then
    raise exception 'a posting was added to a committed transaction, or to none' using errcode = 'KE011';
  end if;
  return null;
end $$;
create trigger posting_is_timely after insert on keel.posting
  referencing new table as added for each statement execute function keel.posting_is_timely();
alter table keel.posting enable always trigger posting_is_timely;

create function keel.append_only() returns trigger language plpgsql as $$
begin
  raise exception '% on % is refused: it is append-only', tg_op, tg_table_name using errcode = 'KE012';
end $$;
do $$ declare name text; begin
  foreach name in array array['config_version', 'verdict', 'operation', 'evaluation', 'intent', 'order_event', 'fill', 'txn',
                              'posting', 'lot_match', 'breaker_event', 'reconciliation', 'audit', 'candle', 'transition', 'anchor',
                              'movement', 'announcement', 'arming', 'ramp_step', 'decision'] loop
    execute format('create trigger no_change before update or delete on keel.%I
                    for each row execute function keel.append_only()', name);
    execute format('create trigger no_truncate before truncate on keel.%I
                    for each statement execute function keel.append_only()', name);
    execute format('alter table keel.%I enable always trigger no_change', name);
    execute format('alter table keel.%I enable always trigger no_truncate', name);
  end loop;
end $$;

-- --------------------------------------------------------------------------------------------- the way in

-- Appends to the chain: the number comes from the locked head row, so the chain cannot fork. Called last in a
-- transaction: the head stays locked only until the commit that follows.
create function keel.audit_append(p_kind text, p_payload text, p_actor text, p_flow_run text, p_task_run text)
returns bigint language plpgsql as $$
declare
  head keel.audit_head;
  now_text text := to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
  acting text := keel.acting_role();
begin
  if keel.changes_of(acting) = '{}' then
    raise exception '% writes nothing', acting using errcode = 'KE030';
  end if;
  update keel.audit_head h set seq = h.seq + 1, prev = h.hash, hash = sha256(h.hash || convert_to(
    concat_ws(e'\n', '2', h.seq + 1, now_text, p_actor, acting, p_kind, p_flow_run, p_task_run, p_payload), 'UTF8'))
  returning * into head;
  insert into keel.audit values
    (head.seq, 2, now_text, p_actor, p_kind, p_flow_run, p_task_run, p_payload, head.prev, head.hash, acting);
  perform pg_notify('keel', p_kind);                     -- whoever watches hears of it when it is committed, and reads anew
  return head.seq;
end $$;

create function keel.apply_configuration(p jsonb) returns int language plpgsql as $$
begin
  insert into keel.config_version (sha256, kind, body)
  select * from jsonb_to_recordset(p) as x (sha256 text, kind text, body text) on conflict do nothing;
  return 1;
end $$;

create function keel.apply_portfolios(p jsonb) returns int language plpgsql as $$
begin
  insert into keel.portfolio (book, mode, name, source, cash_asset, lot_method)
  select * from jsonb_to_recordset(p)
    as x (book text, mode text, name text, source text, cash_asset text, lot_method text);
  return 1;
end $$;

-- A run without a slot (an order by hand) takes the portfolio over from the epoch that it saw.
create function keel.apply_epochs(p jsonb) returns int language plpgsql as $$
declare moved int;
begin
  update keel.portfolio f set epoch = x.epoch from jsonb_to_recordset(p) as x (book text, epoch bigint)
  where f.book = x.book and f.epoch = x.epoch - 1;
  get diagnostics moved = row_count;
  if moved <> jsonb_array_length(p) then
    raise exception 'a later run holds the portfolio' using errcode = 'KE021';
  end if;
  return 1;
end $$;

create function keel.apply_evaluations(p jsonb) returns int language plpgsql as $$
begin
  insert into keel.evaluation (id, book, plan, slot, product, leg, approved, body, plan_sha)
  select * from jsonb_to_recordset(p) as x (id uuid, book text, plan text, slot text, product text, leg smallint,
                                            approved boolean, body jsonb, plan_sha text)
  on conflict (id) do nothing;      -- the same slot judged again after a crash: the first judgement stands
  return 1;
end $$;

create function keel.apply_decisions(p jsonb) returns int language plpgsql as $$
begin
  insert into keel.decision (book, plan, slot_at, plan_sha, code, seen, decided)
  select * from jsonb_to_recordset(p)
    as x (book text, plan text, slot_at timestamptz, plan_sha text, code text, seen text, decided text)
  on conflict do nothing;           -- the same slot decided again after a crash: the first decision stands, as its evaluations do
  return 1;
end $$;

create function keel.apply_accounts(p jsonb) returns int language plpgsql as $$
begin
  insert into keel.account (id, name, book, plan, kind, asset, product)
  select * from jsonb_to_recordset(p)
    as x (id uuid, name text, book text, plan text, kind text, asset text, product text)
  on conflict (id) do nothing;
  return 1;
end $$;

create function keel.apply_intents(p jsonb) returns int language plpgsql as $$
begin
  insert into keel.intent (client_order_id, book, plan, strategy, slot, product, leg, side, type, quantity, limit_price,
      stop_price, time_in_force, post_only, expires_at, protective, reason, body, body_sha256, decision_price, decided_at,
      send_before, plan_sha)
  select * from jsonb_to_recordset(p) as x (client_order_id uuid, book text, plan text, strategy text, slot text,
      product text, leg smallint, side text, type text, quantity numeric, limit_price numeric, stop_price numeric,
      time_in_force text, post_only boolean, expires_at timestamptz, protective boolean, reason text, body text,
      body_sha256 text, decision_price numeric, decided_at timestamptz, send_before timestamptz, plan_sha text);
  insert into keel.order_head (client_order_id, book)
  select * from jsonb_to_recordset(p) as x (client_order_id uuid, book text);
  if exists (select from jsonb_to_recordset(p) as x (client_order_id uuid, book text)
             join keel.venue_order v on v.book = x.book and v.client_order_id = x.client_order_id::text and not v.ours) then
    raise exception 'an id was used before, by an order that the ledger had forgotten' using errcode = 'KE013';
  end if;
  return 1;
end $$;

-- Sets what each order reserves. More may only be reserved where it is available; less, always.
create function keel.apply_holds(p jsonb) returns int language plpgsql as $$
declare
  e jsonb;
  more numeric;
  a keel.account;
begin
  for i in 0 .. jsonb_array_length(p) - 1 loop
    e := p -> i;
    insert into keel.hold as h (client_order_id, account_id, amount)
    values ((e ->> 'client_order_id')::uuid, (e ->> 'account_id')::uuid, (e ->> 'amount')::numeric)
    on conflict (client_order_id) do update set amount = excluded.amount, before = h.amount
    returning amount - before into more;
    continue when more = 0;
    update keel.account set held = held + more where id = (e ->> 'account_id')::uuid returning * into a;
    if not found then
      raise exception 'there is no account %', e ->> 'account_id' using errcode = 'KE020';
    end if;
    if more > 0 and a.held > a.posted then
      raise exception 'overdraft on %: % posted, % would be held', a.name, a.posted, a.held using errcode = 'KE013';
    end if;
  end loop;
  return 1;
end $$;

-- Appends events, in order, and moves each head once, from where its first event starts to where its last one ends, or
-- not at all. The events of one order stand together.
create function keel.apply_events(p jsonb) returns int language plpgsql as $$
declare
  e jsonb;
  id uuid;                                               -- of the order whose events are being appended
  first_seq int;
  first_state text;
  last_seq int;
  last_state text;
  x_filled numeric;
  x_exchange text;
  x_sent timestamptz;
begin
  for i in 0 .. jsonb_array_length(p) - 1 loop
    e := p -> i;
    if id is distinct from (e ->> 'client_order_id')::uuid then
      id := e ->> 'client_order_id';
      first_seq := e ->> 'seq';
      first_state := e ->> 'from_state';
      x_filled := null; x_exchange := null; x_sent := null;
    elsif (e ->> 'seq')::int <> last_seq + 1 or e ->> 'from_state' <> last_state then
      raise exception 'the events of order % do not join', id using errcode = 'KE020';
    end if;
    last_seq := e ->> 'seq';
    last_state := e ->> 'to_state';
    x_filled := coalesce((e ->> 'filled')::numeric, x_filled);
    x_exchange := coalesce(e ->> 'exchange_order_id', x_exchange);
    if e ->> 'event' = 'send' then x_sent := clock_timestamp(); end if;
    insert into keel.order_event (client_order_id, seq, from_state, event, to_state, evidence, epoch, generations)
    values (id, last_seq, e ->> 'from_state', e ->> 'event', last_state, coalesce(e ->> 'evidence', ''),
            (e ->> 'epoch')::bigint, e ->> 'generations');
    continue when (p -> (i + 1) ->> 'client_order_id')::uuid = id;
    update keel.order_head set
      state = last_state, seq = last_seq, filled = coalesce(x_filled, filled), reason = coalesce(e ->> 'evidence', ''),
      exchange_order_id = coalesce(x_exchange, exchange_order_id), sent_at = coalesce(x_sent, sent_at),
      updated_at = clock_timestamp()
    where client_order_id = id and seq = first_seq - 1 and state = first_state;
    if not found then
      raise exception 'order % had moved on already', id using errcode = 'KE020';
    end if;
  end loop;
  return 1;
end $$;

create function keel.apply_fills(p jsonb) returns int language plpgsql as $$
begin
  insert into keel.fill (book, entry_id, trade_id, exchange_order_id, client_order_id, product, side, quantity, price, fee,
                         fee_asset, liquidity, traded_at, kind, adjusts)
  select * from jsonb_to_recordset(p) as x (book text, entry_id text, trade_id text, exchange_order_id text,
      client_order_id uuid, product text, side text, quantity numeric, price numeric, fee numeric, fee_asset text,
      liquidity text, traded_at timestamptz, kind text, adjusts text);
  return 1;
end $$;

create function keel.apply_transactions(p jsonb) returns int language plpgsql as $$
begin
  insert into keel.txn (id, book, kind, source_type, source_id, effective_at, reverses)
  select * from jsonb_to_recordset(p) as x (id uuid, book text, kind text, source_type text, source_id text, effective_at timestamptz,
                                            reverses uuid);
  return 1;
end $$;

-- Accounts are moved in the order of their ids, so that no two writers wait for each other in a circle.
-- What the venue says is booked even where it overdraws an account; then a severity-1 break says so, in the same transaction.
create function keel.apply_postings(p jsonb) returns int language plpgsql as $$
declare
  moved uuid;
  change numeric;
  a keel.account;
begin
  insert into keel.posting (txn_id, line, account_id, asset, amount)
  select * from jsonb_to_recordset(p) as x (txn_id uuid, line smallint, account_id uuid, asset text, amount numeric);
  for moved, change in select x.account_id, sum(x.amount) from jsonb_to_recordset(p) as x (account_id uuid, amount numeric)
                       group by x.account_id order by x.account_id loop
    update keel.account set posted = posted + change where id = moved returning * into a;
    continue when change > 0 or a.kind <> 'venue' or a.posted >= a.held or a.plan = '(outside)';
    insert into keel.recon_break (id, book, class, severity, subject, asset, ours, theirs)
    values (gen_random_uuid(), a.book, 'overdraw', 1, a.name, a.asset, a.posted::text, 'holds ' || a.held)
    on conflict (book, class, subject) where resolved_at is null do nothing;
  end loop;
  return 1;
end $$;

create function keel.apply_lots(p jsonb) returns int language plpgsql as $$
begin
  insert into keel.lot (id, book, plan, product, txn_id, quantity, cost, acquired_at, origin, basis_known, left_quantity, left_cost)
  select *, quantity, cost from jsonb_to_recordset(p) as x (id uuid, book text, plan text, product text, txn_id uuid,
      quantity numeric, cost numeric, acquired_at timestamptz, origin text, basis_known boolean);
  return 1;
end $$;

create function keel.apply_matches(p jsonb) returns int language plpgsql as $$
declare e jsonb;
begin
  for i in 0 .. jsonb_array_length(p) - 1 loop
    e := p -> i;
    insert into keel.lot_match (txn_id, line, lot_id, quantity, cost, proceeds)
    values ((e ->> 'txn_id')::uuid, (e ->> 'line')::smallint, (e ->> 'lot_id')::uuid, (e ->> 'quantity')::numeric,
            (e ->> 'cost')::numeric, (e ->> 'proceeds')::numeric);
    update keel.lot set left_quantity = left_quantity - (e ->> 'quantity')::numeric, left_cost = left_cost - (e ->> 'cost')::numeric
    where id = (e ->> 'lot_id')::uuid;
    if not found then
      raise exception 'there is no lot %', e ->> 'lot_id' using errcode = 'KE020';
    end if;
  end loop;
  return 1;
end $$;

-- What the venue said when it was asked last: each word takes the place of the one before.
create function keel.apply_venue_orders(p jsonb) returns int language plpgsql as $$
begin
  insert into keel.venue_order (book, exchange_order_id, client_order_id, ours, product, side, quantity, limit_price, status,
                                raw_status, filled, fees, created_at)
  select * from jsonb_to_recordset(p) as x (book text, exchange_order_id text, client_order_id text, ours boolean, product text,
      side text, quantity numeric, limit_price numeric, status text, raw_status text, filled numeric, fees numeric,
      created_at timestamptz)
  on conflict (book, exchange_order_id) do update set (ours, status, raw_status, filled, fees, seen_at)
    = (excluded.ours, excluded.status, excluded.raw_status, excluded.filled, excluded.fees, clock_timestamp());
  return 1;
end $$;

create function keel.apply_venue_balances(p jsonb) returns int language plpgsql as $$
begin
  insert into keel.venue_balance (book, asset, available, hold)
  select * from jsonb_to_recordset(p) as x (book text, asset text, available numeric, hold numeric)
  on conflict (book, asset) do update set (available, hold, seen_at) = (excluded.available, excluded.hold, clock_timestamp());
  return 1;
end $$;

create function keel.apply_announcements(p jsonb) returns int language plpgsql as $$
begin
  insert into keel.announcement (id, book, kind, asset, amount, reason, announced_by)
  select * from jsonb_to_recordset(p)
    as x (id uuid, book text, kind text, asset text, amount numeric, reason text, announced_by text);
  return 1;
end $$;

create function keel.apply_movements(p jsonb) returns int language plpgsql as $$
begin
  insert into keel.movement (book, entry_id, kind, asset, amount, to_asset, to_amount, happened_at, note, announcement)
  select * from jsonb_to_recordset(p) as x (book text, entry_id text, kind text, asset text, amount numeric, to_asset text,
      to_amount numeric, happened_at timestamptz, note text, announcement uuid);
  return 1;
end $$;

-- Heads of the chain that were signed and written down outside. Two that anchor the same row anchored the same hash.
create function keel.apply_anchors(p jsonb) returns int language plpgsql as $$
begin
  insert into keel.anchor (seq, hash, anchored)
  select x.seq, decode(x.hash, 'hex'), x.anchored from jsonb_to_recordset(p) as x (seq bigint, hash text, anchored timestamptz)
  on conflict (seq) do nothing;
  return 1;
end $$;

create function keel.apply_equity(p jsonb) returns int language plpgsql as $$
begin
  insert into keel.equity (book, plan, at, equity, cash, unrealised, realised, fees)
  select * from jsonb_to_recordset(p) as x (book text, plan text, at timestamptz, equity numeric, cash numeric,
                                            unrealised numeric, realised numeric, fees numeric)
  on conflict (book, plan, at) do nothing;
  return 1;
end $$;

create function keel.apply_operations(p jsonb) returns int language plpgsql as $$
begin
  insert into keel.operation (book, plan, kind, ok, detail)
  select * from jsonb_to_recordset(p) as x (book text, plan text, kind text, ok boolean, detail text);
  return 1;
end $$;

create function keel.apply_verdicts(p jsonb) returns int language plpgsql as $$
begin
  insert into keel.verdict (book, plan, slot_at, passed, body)
  select * from jsonb_to_recordset(p) as x (book text, plan text, slot_at timestamptz, passed boolean, body jsonb);
  return 1;
end $$;

create function keel.apply_breaks(p jsonb) returns int language plpgsql as $$
begin
  insert into keel.recon_break (id, book, class, severity, subject, asset, ours, theirs)
  select * from jsonb_to_recordset(p) as x (id uuid, book text, class text, severity smallint, subject text, asset text,
                                            ours text, theirs text)
  on conflict (book, class, subject) where resolved_at is null do nothing;
  return 1;
end $$;

create function keel.apply_resolutions(p jsonb) returns int language plpgsql as $$
declare moved int;
begin
  update keel.recon_break b set resolved_at = clock_timestamp(), resolution = x.resolution, resolved_by = x.resolved_by
  from jsonb_to_recordset(p) as x (id uuid, resolution text, resolved_by text)
  where b.id = x.id and b.resolved_at is null;
  get diagnostics moved = row_count;
  if moved <> jsonb_array_length(p) then
    raise exception 'a break to resolve is not open' using errcode = 'KE020';
  end if;
  return 1;
end $$;

create function keel.apply_reconciliations(p jsonb) returns int language plpgsql as $$
begin
  insert into keel.reconciliation (book, clean, body)
  select * from jsonb_to_recordset(p) as x (book text, clean boolean, body jsonb);
  return 1;
end $$;

-- A breaker moves from the generation that was seen, or not at all.
create function keel.apply_breakers(p jsonb) returns int language plpgsql as $$
declare moved int;
begin
  insert into keel.breaker as b (scope, state, level, generation, cause, reason, opened_at, opened_by, resumable_at, resumed_at,
                                 resumed_by, resume_reason, test_until, updated_at)
  select scope, state, level, generation, cause, reason, opened_at, opened_by, resumable_at, resumed_at, resumed_by, resume_reason,
         test_until, updated_at
  from jsonb_populate_recordset(null::keel.breaker, p)
  on conflict (scope) do update set (state, level, generation, cause, reason, opened_at, opened_by, resumable_at, resumed_at,
      resumed_by, resume_reason, test_until, updated_at, moved_at)
    = (excluded.state, excluded.level, excluded.generation, excluded.cause, excluded.reason, excluded.opened_at,
       excluded.opened_by, excluded.resumable_at, excluded.resumed_at, excluded.resumed_by, excluded.resume_reason,
       excluded.test_until, excluded.updated_at, clock_timestamp())
  where b.generation = excluded.generation - 1;
  get diagnostics moved = row_count;
  if moved <> jsonb_array_length(p) then
    raise exception 'a breaker had moved on already' using errcode = 'KE020';
  end if;
  insert into keel.breaker_event (scope, generation, from_state, to_state, level, reason, actor, violations, at)
  select * from jsonb_to_recordset(p) as x (scope text, generation bigint, from_state text, state text, level text,
                                            reason text, actor text, violations jsonb, updated_at timestamptz);
  return 1;
end $$;

create function keel.apply_cycles(p jsonb) returns int language plpgsql as $$
declare moved int;
begin
  update keel.cycle c set state = x.state, reason = coalesce(x.reason, c.reason), finished_at = clock_timestamp(),
    candles_sha = coalesce(x.candles_sha, c.candles_sha), summary = coalesce(x.summary, c.summary)
  from jsonb_to_recordset(p) as x (book text, plan text, slot_at timestamptz, epoch bigint, state text, reason text,
                                   candles_sha text, summary jsonb)
  where (c.book, c.plan, c.slot_at, c.epoch) = (x.book, x.plan, x.slot_at, x.epoch);
  get diagnostics moved = row_count;
  if moved <> jsonb_array_length(p) then
    raise exception 'the cycle was taken over by a later run' using errcode = 'KE021';
  end if;
  return 1;
end $$;

-- A day at most, from the ledger's own clock, read once. What is taken back is a row that ends at once.
create function keel.apply_armings(p jsonb) returns int language plpgsql as $$
declare at timestamptz := clock_timestamp();
begin
  insert into keel.arming (id, book, armed_by, reason, armed_at, expires_at)
  select id, book, armed_by, reason, at, at + make_interval(secs => seconds)
  from jsonb_to_recordset(p) as x (id uuid, book text, armed_by text, reason text, seconds float);
  return 1;
end $$;

-- The newest word counts.
create function keel.armed_until(p_book text) returns timestamptz language sql stable as $$
  select expires_at from keel.arming where book = p_book order by armed_at desc limit 1
$$;

create function keel.apply_ramp_steps(p jsonb) returns int language plpgsql as $$
begin
  insert into keel.ramp_step (id, book, plan, step, capital, reason, actor, evidence, at)
  select * from jsonb_to_recordset(p) as x (id uuid, book text, plan text, step smallint, capital numeric, reason text, actor text,
                                            evidence jsonb, at timestamptz);
  return 1;
end $$;

-- The one way to change anything: applies the change and appends it to the chain. Returns its number in the chain.
create function keel.record(p_kind text, p_payload text, p_actor text, p_flow_run text, p_task_run text)
returns bigint language plpgsql as $$
declare
  p jsonb := p_payload::jsonb;
  done int;                                              -- assigned, not performed: no executor is started for a call
  refusal text := keel.refusal(p);
begin
  if refusal is not null then raise exception '%', refusal using errcode = 'KE030'; end if;
  if p ? 'configuration'   then done := keel.apply_configuration(p -> 'configuration'); end if;
  if p ? 'portfolios'      then done := keel.apply_portfolios(p -> 'portfolios'); end if;
  if p ? 'epochs'          then done := keel.apply_epochs(p -> 'epochs'); end if;
  if p ? 'accounts'        then done := keel.apply_accounts(p -> 'accounts'); end if;
  if p ? 'decisions'       then done := keel.apply_decisions(p -> 'decisions'); end if;
  if p ? 'evaluations'     then done := keel.apply_evaluations(p -> 'evaluations'); end if;
  if p ? 'intents'         then done := keel.apply_intents(p -> 'intents'); end if;
  if p ? 'events'          then done := keel.apply_events(p -> 'events'); end if;
  if p ? 'venue_orders'    then done := keel.apply_venue_orders(p -> 'venue_orders'); end if;
  if p ? 'venue_balances'  then done := keel.apply_venue_balances(p -> 'venue_balances'); end if;
  if p ? 'announcements'   then done := keel.apply_announcements(p -> 'announcements'); end if;
  if p ? 'movements'       then done := keel.apply_movements(p -> 'movements'); end if;
  if p ? 'fills'           then done := keel.apply_fills(p -> 'fills'); end if;
  if p ? 'transactions'    then done := keel.apply_transactions(p -> 'transactions'); end if;
  if p ? 'holds'           then done := keel.apply_holds(p -> 'holds'); end if;   -- a fill pays out of what was held
  if p ? 'postings'        then done := keel.apply_postings(p -> 'postings'); end if;
  if p ? 'lots'            then done := keel.apply_lots(p -> 'lots'); end if;
  if p ? 'matches'         then done := keel.apply_matches(p -> 'matches'); end if;
  if p ? 'equity'          then done := keel.apply_equity(p -> 'equity'); end if;
  if p ? 'operations'      then done := keel.apply_operations(p -> 'operations'); end if;
  if p ? 'verdicts'        then done := keel.apply_verdicts(p -> 'verdicts'); end if;
  if p ? 'breaks'          then done := keel.apply_breaks(p -> 'breaks'); end if;
  if p ? 'resolutions'     then done := keel.apply_resolutions(p -> 'resolutions'); end if;
  if p ? 'reconciliations' then done := keel.apply_reconciliations(p -> 'reconciliations'); end if;
  if p ? 'breakers'        then done := keel.apply_breakers(p -> 'breakers'); end if;
  if p ? 'armings'         then done := keel.apply_armings(p -> 'armings'); end if;
  if p ? 'ramp_steps'      then done := keel.apply_ramp_steps(p -> 'ramp_steps'); end if;
  if p ? 'anchors'         then done := keel.apply_anchors(p -> 'anchors'); end if;
  if p ? 'cycles'          then done := keel.apply_cycles(p -> 'cycles'); end if;
  return keel.audit_append(p_kind, p_payload, p_actor, p_flow_run, p_task_run);
end $$;

create function keel.beat(p_process text, p_version text, p_configuration text, p_stopped boolean) returns void
language sql as $$
  insert into keel.heartbeat (process, at, version, configuration, stopped)
  values (p_process, clock_timestamp(), p_version, p_configuration, p_stopped)
  on conflict (process) do update set (at, version, configuration, stopped)
    = (excluded.at, excluded.version, excluded.configuration, excluded.stopped)
$$;

-- The chain is the outbox: what stands in it was committed with what it tells, in order. A mirror keeps how far it told it on.
create function keel.mirrored(p_name text, p_seq bigint) returns void language sql as $$
  insert into keel.mirror as m (name, seq, at) values (p_name, p_seq, clock_timestamp())
  on conflict (name) do update set (seq, at) = (excluded.seq, excluded.at) where m.seq < excluded.seq
$$;

-- Opens a breaker by hand, in SQL: set role keel_decide; select keel.trip('global', 'cancel', 'why', 'who');
-- One that is open that far already stays as it is: null then. The first resume is possible after an hour.
create function keel.trip(p_scope text, p_level text, p_reason text, p_actor text) returns bigint language plpgsql as $$
declare
  b keel.breaker;
  at timestamptz := coalesce((select max(c.market_at) from keel.cycle c    -- a ledger of replays alone goes by their time
                              where not exists (select from keel.portfolio where source not like 'replay:%')), clock_timestamp());
begin
  if p_level is null or p_level not in ('reduce_only', 'no_new', 'cancel') then
    raise exception 'level %: expected reduce_only, no_new or cancel', p_level using errcode = 'KE013';
  end if;
  select * into b from keel.breaker where scope = p_scope;
  if b.state = 'open' and array_position(array['reduce_only', 'no_new', 'cancel'], b.level)
                       >= array_position(array['reduce_only', 'no_new', 'cancel'], p_level) then
    return null;
  end if;
  return keel.record('breaker', jsonb_build_object('breakers', jsonb_build_array(jsonb_build_object(
    'scope', p_scope, 'state', 'open', 'level', p_level, 'generation', coalesce(b.generation, 0) + 1, 'cause', 'person',
    'reason', p_reason, 'opened_at', at, 'opened_by', p_actor, 'resumable_at', at + interval '1 hour', 'resumed_by', '',
    'resume_reason', '', 'updated_at', at, 'from_state', b.state, 'actor', p_actor, 'violations', '[]'::jsonb)))::text,
    p_actor, '', '');
end $$;

-- ------------------------------------------------------------------------------------------------ the slot

-- What lies before a slot that is being claimed is over: expected slots without a row were missed (nobody decides on an older
-- candle after a newer one), and what is still claimed is a dead run's. A replay has no clock that passes slots by.
create function keel.close_earlier(p_book text, p_plan text, p_slot timestamptz, p_market timestamptz, p_plan_sha text,
    p_epoch bigint) returns jsonb language plpgsql as $$
declare
  newest timestamptz;
  step interval;
  missed jsonb;
  died jsonb;
begin
  with d as (
    update keel.cycle set state = 'failed', reason = 'its run died', finished_at = clock_timestamp()
    where book = p_book and plan = p_plan and state = 'claimed' and slot_at < p_slot returning slot_at)
  select coalesce(jsonb_agg(slot_at), '[]') into died from d;
  select max(slot_at) into newest from keel.cycle where book = p_book and plan = p_plan and slot_at < p_slot;
  select (v.body::jsonb ->> 'interval')::interval into step from keel.config_version v, keel.portfolio p
  where v.sha256 = p_plan_sha and p.book = p_book and p.source not like 'replay:%';
  with m as (
    insert into keel.cycle (book, plan, slot_at, epoch, state, policy, reason, market_at, plan_sha, finished_at)
    select p_book, p_plan, s, p_epoch, 'skipped', 'skip', 'missed: no run claimed it', p_market, p_plan_sha, clock_timestamp()
    from generate_series(p_slot - step, newest + interval '1 second', -step) s
    on conflict do nothing returning slot_at)
  select coalesce(jsonb_agg(slot_at), '[]') into missed from m;
  return jsonb_build_object('missed', missed, 'died', died);
end $$;

-- Claims a slot under the portfolio's lock (held by the caller) and raises the fencing epoch. The policy says what a late
-- run may do: run, reduce_only, skip. A slot that was traded or
-- skipped already is only reported. An unfinished one is taken over: its run is dead, the lock would be held otherwise.
create function keel.claim_slot(p_book text, p_plan text, p_slot timestamptz, p_market timestamptz, p_plan_sha text,
    p_policy text, p_reason text, p_actor text, p_flow_run text, p_task_run text)
returns table (outcome text, epoch bigint, flow_run_id text, reason text, finished_at timestamptz) language plpgsql as $$
#variable_conflict use_column
declare
  c keel.cycle;
  e bigint;
  verb text;
  earlier jsonb;
begin
  select * into c from keel.cycle where book = p_book and plan = p_plan and slot_at = p_slot for update;
  if c.state in ('done', 'skipped') then
    return query select c.state, c.epoch, c.flow_run_id, c.reason, c.finished_at;
    return;
  end if;
  update keel.portfolio set epoch = epoch + 1 where book = p_book returning epoch into strict e;
  verb := case when c.book is null then 'claimed' else 'resumed' end;
  insert into keel.cycle (book, plan, slot_at, epoch, state, policy, reason, market_at, plan_sha, flow_run_id)
  values (p_book, p_plan, p_slot, e, 'claimed', p_policy, p_reason, p_market, p_plan_sha, p_flow_run)
  on conflict (book, plan, slot_at) do update set epoch = excluded.epoch, state = 'claimed', policy = excluded.policy,
    reason = excluded.reason, market_at = excluded.market_at, plan_sha = excluded.plan_sha, flow_run_id = excluded.flow_run_id,
    started_at = clock_timestamp();
  earlier := keel.close_earlier(p_book, p_plan, p_slot, p_market, p_plan_sha, e);
  perform keel.audit_append('cycle.' || verb, jsonb_build_object('book', p_book, 'plan', p_plan, 'slot_at', p_slot,
    'market_at', p_market, 'epoch', e, 'earlier', earlier,
    'plan_sha', p_plan_sha, 'policy', p_policy, 'reason', p_reason)::text, p_actor, p_flow_run, p_task_run);
  return query select verb, e, p_flow_run, p_reason, null::timestamptz;
end $$;

-- ------------------------------------------------------------------------------------------- the road to the wire

-- Marks staged orders as sending, in the transaction that share-locks the portfolio's epoch and every breaker row that
-- concerns them: a trip that committed first always wins. What may not go is abandoned. Returns the verdict per order.
-- Severity is what a breaker forbids: 0 nothing, 1 replays (half-open), 2 what adds risk (reduce-only), 3 all but protective
-- exits; a missing row is open. `p_replay`: orders in doubt may go once more, the same bytes, while every breaker is closed.
create function keel.mark_sending(p_book text, p_epoch bigint, p_orders uuid[], p_scopes text[], p_replay boolean, p_actor text,
    p_flow_run text, p_task_run text)
returns table (client_order_id uuid, verdict text) language plpgsql as $$
#variable_conflict use_column
declare
  current_epoch bigint;
  is_armed boolean;
  b record;
  o record;
  locked text := '';
  shared int := 0;
  found_rows int := 0;
  by_product jsonb := '{}';
  events jsonb := '[]';
  released jsonb := '[]';
  done bigint;
begin
  select epoch, mode = 'paper' or coalesce(keel.armed_until(book) > clock_timestamp(), false) into current_epoch, is_armed
  from keel.portfolio where book = p_book for share;
  if current_epoch is distinct from p_epoch then
    raise exception 'fenced: this run holds epoch %, the portfolio is at %', p_epoch, current_epoch using errcode = 'KE021';
  end if;
  for b in select scope, generation,
             case when state = 'closed' then 0 when state = 'half_open' then 1 when level = 'reduce_only' then 2 else 3 end
               as severity
           from keel.breaker where scope = any (p_scopes || array(
             select 'product:' || p_book || ':' || product from keel.intent where client_order_id = any (p_orders)))
           order by scope for share loop
    if b.scope = any (p_scopes) then
      shared := greatest(shared, b.severity);
      found_rows := found_rows + 1;
      locked := concat_ws(' ', nullif(locked, ''), b.scope || '=' || b.generation);
    else
      by_product := by_product || jsonb_build_object(b.scope, b.severity);
    end if;
  end loop;
  if found_rows < cardinality(p_scopes) then shared := 3; end if;
  foreach client_order_id in array p_orders loop        -- one by one: a join with an array reads whole tables
    select h.seq, h.state, i.send_before, i.protective, i.side, l.account_id,
           greatest(shared, coalesce((by_product ->> ('product:' || p_book || ':' || i.product))::int, 3)) as severity
    into o
    from keel.order_head h join keel.intent i using (client_order_id) left join keel.hold l using (client_order_id)
    where h.client_order_id = mark_sending.client_order_id;
    continue when not found;
    verdict := case
      when o.state = 'in_doubt' and p_replay and o.severity = 0 and clock_timestamp() <= o.send_before
        and (is_armed or o.side = 'sell') then 'send'
      when o.state <> 'staged' then o.state
      when clock_timestamp() > o.send_before then 'too_late'
      when not is_armed and o.side = 'buy' then 'not_armed'
      when o.protective or o.severity <= 1 or (o.severity = 2 and o.side = 'sell') then 'send'
      else 'breaker_open' end;
    return next;
    continue when o.state <> 'staged' and verdict <> 'send';
    if verdict = 'send' then
      events := events || jsonb_build_object('client_order_id', client_order_id, 'seq', o.seq + 1, 'from_state', o.state,
        'event', 'send', 'to_state', 'sending', 'epoch', p_epoch, 'generations', locked);
    else
      events := events || jsonb_build_object('client_order_id', client_order_id, 'seq', o.seq + 1, 'from_state', 'staged',
        'event', 'abandon', 'to_state', 'abandoned', 'evidence', verdict, 'epoch', p_epoch, 'generations', locked);
      if o.account_id is not null then
        released := released || jsonb_build_object('client_order_id', client_order_id, 'account_id', o.account_id, 'amount', 0);
      end if;
    end if;
  end loop;
  if events <> '[]' then
    done := keel.record('order.send', jsonb_build_object('events', events, 'holds', released)::text, p_actor, p_flow_run, p_task_run);
  end if;
end $$;

-- -------------------------------------------------------------------------------------------------------- views

-- Cash that a plan was given or that was taken from it after it was opened: neither a gain nor a loss.
create view keel.allotment as
  select a.book, a.plan, t.posted_at, -p.amount as amount
  from keel.txn t join keel.posting p on p.txn_id = t.id join keel.account a on a.id = p.account_id
  where t.kind = 'allotment' and a.kind = 'equity';

-- One plan's share of a portfolio, as decisions see it, in one round trip. Earlier marks are what they would be had the plan
-- had its present capital then: else what is taken from it would count as lost.
create function keel.portfolio_state(p_book text, p_plan text, p_day_start timestamptz) returns jsonb language sql stable as $$
  with given as materialized (select posted_at, amount from keel.allotment where book = p_book and plan = p_plan)
  select jsonb_build_object(
    'accounts', (select coalesce(jsonb_agg(jsonb_build_array(kind, asset, product, posted::text, held::text)), '[]')
                 from keel.account where book = p_book and plan = p_plan),
    'positions', (select coalesce(jsonb_agg(jsonb_build_array(product, quantity::text, cost::text)), '[]') from (
                    select product, sum(left_quantity) as quantity, sum(left_cost) as cost from keel.lot
                    where book = p_book and plan = p_plan and left_quantity > 0 group by product) x),
    'live', (select coalesce(jsonb_agg(jsonb_build_array(i.product, i.side,
                     ((i.quantity - h.filled) * coalesce(i.limit_price, i.decision_price))::text)), '[]')
             from keel.order_head h join keel.intent i using (client_order_id)
             where h.book = p_book and i.plan = p_plan and h.state in ('staged', 'sending', 'in_doubt', 'open', 'cancelling')),
    'missing', (select coalesce(-least(sum(a.posted), 0), 0)::text from keel.account a join keel.portfolio p using (book)
                where a.book = p_book and a.plan = '(outside)' and a.kind = 'venue' and a.asset = p.cash_asset),
    'doubts', (select coalesce(jsonb_agg(i.product), '[]') from keel.order_head h join keel.intent i using (client_order_id)
               where h.book = p_book and h.state in ('sending', 'in_doubt')),
    'frozen', (select coalesce(jsonb_agg(distinct asset), '[]') from keel.recon_break
               where book = p_book and resolved_at is null and asset <> ''),
    'peak', (select max(equity + coalesce((select sum(amount) from given where posted_at > recorded_at), 0))::text
             from keel.equity where book = p_book and plan = p_plan and at >= coalesce((
               select max(at) from keel.breaker_event e where e.scope = 'strategy:' || p_book || ':' || p_plan and e.to_state = 'half_open'),
               '-infinity')),
    'day_start', (select (equity + coalesce((select sum(amount) from given where posted_at > recorded_at), 0))::text from (
       (select equity, recorded_at, 1 as turn from keel.equity where book = p_book and plan = p_plan and at < p_day_start
        order by at desc limit 1)
       union all
       (select equity, recorded_at, 2 from keel.equity where book = p_book and plan = p_plan and at >= p_day_start
        order by at limit 1)) x order by turn limit 1),
    'day_volume', (select coalesce(sum(i.quantity * i.decision_price), 0)::text
                   from keel.intent i join keel.order_head h using (client_order_id)
                   where i.book = p_book and i.plan = p_plan and i.decided_at >= p_day_start and h.sent_at is not null))
$$;

-- What a plan has sent lately, by market time and counted at the send, as the entry guards look at it: see trading/portfolio.py.
create function keel.sent_lately(p_book text, p_plan text, p_day_start timestamptz, p_now timestamptz) returns jsonb
  language sql stable as $$
  with sent as materialized (
    select i.product, i.side, i.type, i.quantity, i.decision_price, i.limit_price, i.decided_at, h.state, h.filled
    from keel.intent i join keel.order_head h using (client_order_id)
    where i.book = p_book and i.plan = p_plan and h.sent_at is not null
      and i.decided_at >= least(p_day_start, p_now - interval '1 hour')),
  live as materialized (
    select i.plan, i.product, i.side, i.type, i.limit_price from keel.order_head h join keel.intent i using (client_order_id)
    where h.book = p_book and h.state in ('staged', 'sending', 'in_doubt', 'open', 'cancelling')),
  known as (select product from sent union select product from keel.lot where book = p_book and plan = p_plan and left_quantity > 0)
  select jsonb_build_object(
    'counts', (select coalesce(jsonb_agg(jsonb_build_array(product, hour, day)), '[]') from (
                 select product, count(*) filter (where decided_at > p_now - interval '1 hour') as hour,
                        count(*) filter (where decided_at >= p_day_start) as day from sent group by product) x),
    'hour_volume', (select coalesce(sum(quantity * decision_price), 0)::text from sent where decided_at > p_now - interval '1 hour'),
    'minute', (select count(*) from keel.intent i join keel.order_head h using (client_order_id)
               where i.book = p_book and h.sent_at is not null and i.decided_at > p_now - interval '1 minute'),
    'live', (select coalesce(jsonb_agg(jsonb_build_array(product, orders)), '[]') from (
               select product, count(*) as orders from live where plan = p_plan group by product) x),
    'sales', (select coalesce(jsonb_agg(jsonb_build_array(product, price::text)), '[]') from (
                select product, min(limit_price) as price from live where side = 'sell' and type = 'limit' group by product) x),
    'buys', (select coalesce(jsonb_agg(jsonb_build_array(product, quantity::text, coalesce(limit_price, decision_price)::text,
                                                         decided_at) order by decided_at), '[]')
             from sent where side = 'buy' and decided_at > p_now - interval '1 hour'
               and state not in ('rejected', 'abandoned', 'absent') and (filled > 0 or state not in ('cancelled', 'expired'))),
    -- Entries in a row: since the last sale of the product, or since a person resumed it.
    'entries', (select coalesce(jsonb_agg(jsonb_build_array(k.product, (
                  select count(*) from keel.intent i join keel.order_head h using (client_order_id)
                  where i.book = p_book and i.plan = p_plan and i.product = k.product and i.side = 'buy' and h.sent_at is not null
                    and h.state not in ('rejected', 'abandoned', 'absent') and i.decided_at > greatest('-infinity', (
                      select s.decided_at from keel.intent s join keel.order_head t using (client_order_id)
                      where s.book = p_book and s.plan = p_plan and s.product = k.product and s.side = 'sell'
                        and t.sent_at is not null order by s.decided_at desc limit 1), (
                      select max(e.at) from keel.breaker_event e
                      where e.scope = 'product:' || p_book || ':' || k.product and e.to_state = 'half_open'))))), '[]')
                from known k))
$$;

create view keel.orders as
  select i.client_order_id, h.exchange_order_id, p.mode, i.book, i.plan, i.strategy, i.slot, i.product, i.leg, i.side, i.type,
         i.quantity, coalesce(i.limit_price, i.stop_price) as price, h.state, h.filled,
         case when h.state in ('in_doubt', 'cancelled', 'expired', 'rejected', 'abandoned', 'absent') and h.reason <> ''
              then h.reason else i.reason end as reason, i.reason as decision, i.decision_price, i.decided_at,
         i.created_at, h.sent_at, h.updated_at
  from keel.intent i join keel.order_head h using (client_order_id) join keel.portfolio p on p.book = i.book;

create view keel.standing_fill as                          -- without what the venue took back, and its words about that
  select f.* from keel.fill f where f.kind <> 'reversal'
    and not exists (select from keel.fill a where a.book = f.book and a.adjusts = f.entry_id);

create view keel.fills as                                  -- of our orders
  select f.*, i.plan, i.slot, i.decision_price, i.decided_at, i.created_at as staged_at
  from keel.standing_fill f join keel.intent i using (client_order_id);

create view keel.positions as
  select book, plan, product, sum(left_quantity) as quantity, sum(left_cost) as cost
  from keel.lot where left_quantity > 0 group by book, plan, product;

-- One row per sale that stands: what it brought, and what it had cost with the fee that was paid in coin. What brings nothing is
-- no sale: a fee in coin of a purchase, a withdrawal, a lot that joins a pool.
create view keel.closed_trades as
  select t.source_id, t.effective_at as at, l.book, l.plan, l.product, sum(m.quantity) as quantity, sum(m.cost) as cost,
         sum(m.proceeds) as proceeds, sum(m.proceeds - m.cost) as realised
  from keel.lot_match m join keel.lot l on l.id = m.lot_id join keel.txn t on t.id = m.txn_id
  where t.reverses is null and not exists (select from keel.txn r where r.reverses = t.id)
  group by t.id, t.source_id, t.effective_at, l.book, l.plan, l.product having sum(m.proceeds) <> 0;
