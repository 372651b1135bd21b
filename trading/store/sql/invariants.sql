-- What must hold in the ledger at every commit: each query returns a line for every exception, none when all is well.
-- `trading.store.verify` runs them over one snapshot. Each is named, and each has a test that plants what it must find.

-- name: transactions_balance
--   BOK-1: each transaction sums to zero in each asset, and has two lines or more.
select t.id || ' ' || coalesce(p.asset, 'no lines') || ' ' || coalesce(sum(p.amount), 0)
from keel.txn t left join keel.posting p on p.txn_id = t.id group by t.id, p.asset
having coalesce(sum(p.amount), 0) <> 0 or count(p.line) = 0
union all
select txn_id || ' has one line' from keel.posting group by txn_id having count(*) < 2;

-- name: ledger_sums_to_zero
--   BOK-2, asked of the accounts' own sums: independent of the postings.
select asset || ' ' || sum(posted) from keel.account group by asset having sum(posted) <> 0;

-- name: balances_equal_postings
--   BOK-3
select a.name || ' says ' || a.posted || ', postings sum to ' || coalesce(p.amount, 0) from keel.account a
left join (select account_id, sum(amount) as amount from keel.posting group by 1) p on p.account_id = a.id
where a.posted <> coalesce(p.amount, 0);

-- name: holds_add_up
select a.name || ' says ' || a.held || ' held, holds sum to ' || coalesce(h.amount, 0) from keel.account a
left join (select account_id, sum(amount) as amount from keel.hold group by 1) h on h.account_id = a.id
where a.held <> coalesce(h.amount, 0);

-- name: closed_orders_hold_nothing
select h.client_order_id || ' is ' || o.state || ' and holds ' || h.amount
from keel.hold h join keel.order_head o using (client_order_id)
where h.amount <> 0 and o.state not in ('staged', 'sending', 'in_doubt', 'open', 'cancelling');

-- name: no_overdraft
--   BOK-4. What a venue did is booked even if it overdraws; then a severity-1 break must say so.
select a.name || ' has ' || a.posted || ' and holds ' || a.held from keel.account a
where a.kind = 'venue' and a.posted < a.held and a.plan <> '(outside)'
  and not exists (select from keel.recon_break b where b.book = a.book and b.asset = a.asset and b.resolved_at is null)
union all
select a.book || ' has ' || sum(a.posted) || ' ' || a.asset || ' in all' from keel.account a where a.kind = 'venue'
  and not exists (select from keel.recon_break b where b.book = a.book and b.asset = a.asset and b.resolved_at is null)
group by a.book, a.asset having sum(a.posted) < 0;

-- name: suspense_is_explained
--   BOK-6
select a.name || ' ' || a.posted from keel.account a where a.kind = 'suspense' and a.posted <> 0
  and not exists (select from keel.recon_break b where b.book = a.book and b.asset = a.asset and b.resolved_at is null);

-- name: lots_conserve_cost
--   LOT-1: cost out + cost left = cost in, to the last unit.
select l.id || ' ' || l.product from keel.lot l
left join (select lot_id, sum(quantity) as quantity, sum(cost) as cost from keel.lot_match group by 1) m on m.lot_id = l.id
where l.left_quantity + coalesce(m.quantity, 0) <> l.quantity or l.left_cost + coalesce(m.cost, 0) <> l.cost;

-- name: lots_equal_trading_accounts
--   LOT-2: what the pair's trading accounts say is what the lots hold.
select a.name || ' says ' || a.posted || ', lots hold ' || coalesce(l.held, 0) from keel.account a
left join (select book, plan, product, side.asset, side.held from (
             select book, plan, product, sum(left_quantity) as quantity, sum(left_cost) as cost
             from keel.lot group by 1, 2, 3) x,
           lateral (values (split_part(product, '-', 1), -quantity), (split_part(product, '-', 2), cost)) as side (asset, held)
          ) l on (l.book, l.plan, l.product, l.asset) = (a.book, a.plan, a.product, a.asset)
where a.kind = 'trading' and a.posted <> coalesce(l.held, 0);

-- name: income_equals_matches
--   LOT-3: realised results are what the matches brought beyond their cost. A fee in the base asset brings nothing.
select coalesce(l.name, a.name) || ' matches say ' || coalesce(l.realised, 0) || ', income says ' || coalesce(-a.posted, 0)
from (select l.book || ':' || l.plan || ':income:' || l.product || ':' || split_part(l.product, '-', 2) as name,
        sum(m.proceeds - m.cost) as realised
      from keel.lot_match m join keel.lot l on l.id = m.lot_id where m.proceeds <> 0 group by 1) l
full join (select name, posted from keel.account where kind = 'income' and product <> '') a on a.name = l.name
where coalesce(l.realised, 0) <> coalesce(-a.posted, 0);

-- name: fills_posted_once
--   FIL-1: a fill that stands has exactly one transaction that stands (later ones re-post it after a reversal of earlier
--   fills); one that the venue took back has none, and neither has its word about that.
select 'fill ' || f.entry_id || ' has ' || count(t.id) || ' transactions, expected ' || (s.entry_id is not null)::int from keel.fill f
left join keel.standing_fill s on (s.book, s.entry_id) = (f.book, f.entry_id)
left join (select book, source_id, id from keel.txn t where source_type = 'fill' and reverses is null
             and not exists (select from keel.txn r where r.reverses = t.id)) t
  on (t.book, t.source_id) = (f.book, f.entry_id)
group by f.book, f.entry_id, s.entry_id having count(t.id) <> (s.entry_id is not null)::int;

-- name: transactions_have_a_source
--   FIL-2
select 'transaction ' || t.id || ' has no ' || t.source_type || ' ' || t.source_id from keel.txn t
where t.reverses is null and (
  (t.source_type = 'fill' and not exists (select from keel.fill f where (f.book, f.entry_id) = (t.book, t.source_id)))
  or (t.source_type = 'movement' and not exists (select from keel.movement m where (m.book, m.entry_id) = (t.book, t.source_id)))
  or (t.source_type = 'plan' and not exists (select from keel.portfolio p where t.source_id like p.book || ':%')));

-- name: reversals_are_exact
--   BOK-5: a reversal is the negative of what it reverses, in every account and lot; a lot that the original opened is given
--   up whole. At most one reverses an original.
select 'transaction ' || r.id || ' is not the negative of ' || r.reverses || ' in ' || a.name
from keel.txn r join keel.posting p on p.txn_id in (r.id, r.reverses) join keel.account a on a.id = p.account_id
where r.reverses is not null group by r.id, r.reverses, a.name having sum(p.amount) <> 0
union all
select 'transaction ' || r.id || ' does not give back lot ' || l.id || ' of ' || r.reverses
from keel.txn r join keel.lot_match m on m.txn_id in (r.id, r.reverses) join keel.lot l on l.id = m.lot_id
where r.reverses is not null group by r.id, r.reverses, l.id having (sum(m.quantity), sum(m.cost))
  is distinct from (case when l.txn_id = r.reverses then l.quantity else 0 end, case when l.txn_id = r.reverses then l.cost else 0 end)
union all
select 'lot ' || l.id || ' outlived ' || r.reverses || ', which opened it' from keel.txn r join keel.lot l on l.txn_id = r.reverses
where l.left_quantity <> 0
union all
select 'transaction ' || reverses || ' is reversed ' || count(*) || ' times' from keel.txn where reverses is not null
group by reverses having count(*) > 1;

-- name: balances_follow_from_raw_fills
--   POS-2: what the venue holds for us, rebuilt from its own fills and movements alone, without lots and postings; opening
--   capital and what reconciliation put into suspense come on top. A notional beyond 18 decimals was rounded, once per fill.
with moved (book, asset, amount, slack) as (
  select book, split_part(product, '-', 1), case side when 'buy' then quantity else -quantity end, 0 from keel.standing_fill
  union all
  select book, split_part(product, '-', 2), case side when 'buy' then -quantity * price else quantity * price end, 1e-18
  from keel.standing_fill
  union all
  select book, fee_asset, -fee, 0 from keel.standing_fill
  union all
  select book, asset, case when kind in ('deposit', 'income') then amount else -amount end, 0 from keel.movement
  union all
  select book, to_asset, to_amount, 0 from keel.movement where to_asset is not null
  union all
  select a.book, a.asset, p.amount, 0 from keel.txn t join keel.posting p on p.txn_id = t.id join keel.account a on a.id = p.account_id
  left join keel.txn o on o.id = t.reverses
  where a.kind = 'venue' and coalesce(o.source_type, t.source_type) not in ('fill', 'movement')),
raw as (select book, asset, sum(amount) as amount, sum(slack) as slack from moved group by 1, 2),
posted as (select a.book, a.asset, sum(p.amount) as amount from keel.posting p join keel.account a on a.id = p.account_id
           where a.kind = 'venue' group by 1, 2)
select coalesce(raw.book, posted.book) || ' has ' || coalesce(posted.amount, 0) || ' ' || coalesce(raw.asset, posted.asset)
       || ', raw fills and movements say ' || coalesce(raw.amount, 0)
from raw full join posted using (book, asset)
where abs(coalesce(raw.amount, 0) - coalesce(posted.amount, 0)) > coalesce(raw.slack, 0);

-- name: nothing_crosses_portfolios
--   BOK-9: paper and live never meet: a transaction stays in one portfolio, a fill in that of its order.
select 'transaction ' || p.txn_id || ' touches ' || string_agg(distinct a.book, ' and ')
from keel.posting p join keel.account a on a.id = p.account_id group by p.txn_id having count(distinct a.book) > 1
union all
select 'fill ' || f.entry_id || ' of ' || f.book || ' is of an order of ' || i.book
from keel.fill f join keel.intent i using (client_order_id) where f.book <> i.book;

-- name: one_venue_order_per_order
--   ORD-2: one order at the venue for each of ours, or a break says so.
select v.client_order_id || ' has ' || count(*) || ' orders at the venue' from keel.venue_order v
where exists (select from keel.intent i where i.client_order_id::text = v.client_order_id and i.book = v.book)
  and not exists (select from keel.recon_break b where b.book = v.book and b.subject in (v.client_order_id, v.exchange_order_id))
group by v.book, v.client_order_id having count(*) > 1;

-- name: venue_orders_are_ours
--   ORD-3: every order at the venue is one of ours, or has a break on record.
select v.exchange_order_id || ' (' || v.client_order_id || ') at the venue is not ours, and no break says so' from keel.venue_order v
where not exists (select from keel.intent i where i.client_order_id::text = v.client_order_id and i.book = v.book)
  and not exists (select from keel.recon_break b where b.book = v.book and b.subject in (v.client_order_id, v.exchange_order_id));

-- name: fills_equal_the_venue
--   FIL-3: what we had booked of an order when the venue was asked is what it said, or a break says otherwise.
select v.exchange_order_id || ': the venue says ' || v.filled || ' filled and fees of ' || v.fees || ', we had '
       || coalesce(sum(f.quantity), 0) || ' and ' || coalesce(sum(f.fee), 0)
from keel.venue_order v
left join keel.fill f on (f.book, f.exchange_order_id) = (v.book, v.exchange_order_id) and f.kind <> 'reversal' and f.seen_at <= v.seen_at
  and not exists (select from keel.fill a where a.book = f.book and a.adjusts = f.entry_id and a.seen_at <= v.seen_at)
where not exists (select from keel.recon_break b where b.book = v.book and b.subject in (v.client_order_id, v.exchange_order_id))
group by v.book, v.exchange_order_id, v.filled, v.fees, v.product
having coalesce(sum(f.quantity), 0) <> v.filled
  or (coalesce(sum(f.fee), 0) <> v.fees and coalesce(bool_and(f.fee_asset = split_part(v.product, '-', 2)), true));

-- name: balances_equal_the_venue
--   POS-1: what we had booked of an asset when the venue was asked is what it held, or a break was opened within that cycle,
--   or an order in doubt may have moved it.
with booked as (
  select a.book, a.asset, t.posted_at, p.amount from keel.posting p join keel.account a on a.id = p.account_id
  join keel.txn t on t.id = p.txn_id where a.kind = 'venue'),
asked as (
  select v.book, v.asset, v.available + v.hold as held, v.seen_at from keel.venue_balance v
  union all                                              -- what the venue left out of its list, it does not hold
  select distinct b.book, b.asset, 0, s.seen_at
  from booked b join (select book, max(seen_at) as seen_at from keel.venue_balance group by 1) s on s.book = b.book
  where not exists (select from keel.venue_balance v where (v.book, v.asset) = (b.book, b.asset)))
select v.book || ': the venue held ' || v.held || ' ' || v.asset || ', we had ' || coalesce(b.amount, 0) from asked v
cross join lateral (select sum(amount) as amount from booked b where (b.book, b.asset) = (v.book, v.asset) and b.posted_at <= v.seen_at) b
where v.held <> coalesce(b.amount, 0)
  and not exists (                                       -- what an order in doubt may have moved is no difference
    select from keel.order_head h join keel.intent i using (client_order_id)
    where h.book = v.book and h.state in ('sending', 'in_doubt') and v.asset in (split_part(i.product, '-', 1), split_part(i.product, '-', 2)))
  and not exists (
  select from keel.recon_break k where (k.book, k.asset) = (v.book, v.asset)
    and (k.resolved_at is null or k.resolved_at >= v.seen_at));

-- name: fills_add_up_to_orders
--   ORD-7
select o.client_order_id || ' says ' || o.filled || ' filled of ' || i.quantity || ', fills sum to ' || coalesce(f.quantity, 0)
from keel.order_head o join keel.intent i using (client_order_id)
left join (select client_order_id, sum(quantity) as quantity from keel.standing_fill group by 1) f using (client_order_id)
where o.filled <> coalesce(f.quantity, 0) or o.filled > i.quantity or (o.state = 'filled' and o.filled <> i.quantity and not exists (
  select from keel.order_event e where e.client_order_id = o.client_order_id and e.event = 'adjust'));

-- name: fills_within_limits
--   ORD-8: a limit is never exceeded against us.
select f.entry_id || ' at ' || f.price || ', limit ' || i.limit_price from keel.fill f join keel.intent i using (client_order_id)
where (i.side = 'buy' and f.price > i.limit_price) or (i.side = 'sell' and f.price < i.limit_price);

-- name: order_is_fold_of_events
--   ORD-4: the head is the fold of its events; events are counted without holes and each starts where the last ended.
select h.client_order_id || ' says ' || h.state || ' after ' || h.seq || ', events say '
       || coalesce(e.state, 'staged') || ' after ' || coalesce(e.steps, 0)
from keel.order_head h left join (
  select client_order_id, count(*) as steps, max(seq) as last, (array_agg(to_state order by seq desc))[1] as state
  from keel.order_event group by 1) e using (client_order_id)
where (h.state, h.seq, h.seq) is distinct from (coalesce(e.state, 'staged'), coalesce(e.last, 0), coalesce(e.steps, 0)::int);

-- name: events_are_continuous
select client_order_id || ' event ' || seq || ' starts at ' || from_state || ', the one before ended at ' || before from (
  select *, coalesce(lag(to_state) over (partition by client_order_id order by seq), 'staged') as before from keel.order_event) x
where before <> from_state;

-- name: moves_are_legal
select e.client_order_id || ' event ' || e.seq || ': ' || e.from_state || ' ' || e.event || ' ' || e.to_state
from keel.order_event e left join keel.transition t using (from_state, event, to_state) where t.event is null;

-- name: bodies_match_their_hash
--   ORD-9, before the wire: the stored bytes are the bytes that were approved.
select client_order_id::text from keel.intent where body_sha256 <> encode(sha256(convert_to(body, 'UTF8')), 'hex');

-- name: sends_under_a_breaker_that_let_them
--   ORD-5: what each send locked was closed or half-open at that generation, or let exactly this order through. The same
--   bytes go a second time only while all of it is closed.
select e.client_order_id || ' event ' || e.seq || ' under ' || coalesce(nullif(pair, ''), 'no breaker')
from keel.order_event e join keel.intent i using (client_order_id)
cross join lateral unnest(string_to_array(coalesce(nullif(e.generations, ''), '?'), ' ')) as pair
left join keel.breaker_event b
  on b.scope = regexp_replace(pair, '=[0-9]+$', '') and b.generation::text = substring(pair from '=([0-9]+)$')
where e.event = 'send' and not coalesce(
  b.to_state = 'closed' or (b.to_state = 'half_open' and e.from_state = 'staged') or i.protective or (b.level = 'reduce_only' and i.side = 'sell'), false);

-- name: sends_under_a_known_epoch
--   ORD-5, epochs: a send never happens under an epoch that the portfolio has not reached.
select e.client_order_id || ' was sent under epoch ' || coalesce(e.epoch::text, 'none') || ', the portfolio is at ' || p.epoch
from keel.order_event e join keel.intent i using (client_order_id) join keel.portfolio p on p.book = i.book
where e.event = 'send' and (e.epoch is null or e.epoch > p.epoch);

-- name: nothing_sent_too_late
--   ORD-10. The clock is read once for the rule and once for the row: seconds apart at worst.
select e.client_order_id || ' was sent at ' || e.at || ', its time ended at ' || i.send_before
from keel.order_event e join keel.intent i using (client_order_id) where e.event = 'send' and e.at > i.send_before + interval '5 seconds';

-- name: doubts_have_a_break
--   ORD-6: nobody is left wondering for more than 10 minutes.
select h.client_order_id || ' is ' || h.state || ' since ' || h.updated_at from keel.order_head h
where h.state in ('sending', 'in_doubt', 'cancelling') and h.updated_at < clock_timestamp() - interval '10 minutes'
  and not exists (select from keel.recon_break b where b.subject = h.client_order_id::text and b.resolved_at is null);

-- name: doubts_keep_their_hold
--   ORD-6: until its fate is known, an order's full notional counts as used.
select h.client_order_id || ' is ' || h.state || ' and holds nothing' from keel.order_head h
left join keel.hold l using (client_order_id)
where h.state in ('sending', 'in_doubt') and h.filled = 0 and coalesce(l.amount, 0) = 0;

-- name: one_intent_per_decision
--   ORD-1
select book || ' ' || slot || ' ' || product || ' leg ' || leg || ' has ' || count(*) || ' orders' from keel.intent
group by book, strategy, product, slot, leg having count(*) > 1;

-- name: dead_orders_are_never_sent
--   ORD-11: what was rejected, abandoned or proved absent is not sent again.
select s.client_order_id || ' was sent by event ' || s.seq || ' after event ' || d.seq || ', ' || d.to_state
from keel.order_event s join keel.order_event d on d.client_order_id = s.client_order_id and d.seq < s.seq
where s.event = 'send' and d.to_state in ('rejected', 'abandoned', 'absent');

-- name: sends_locked_every_scope
--   BRK-3: a scope without a row is open: no send may have missed one. Product scopes are looked up by the database itself.
select e.client_order_id || ' was sent without looking at the breaker of ' || s.scope
from keel.order_event e join keel.intent i using (client_order_id)
cross join lateral (values ('global='), ('portfolio:' || i.book || '='), ('strategy:' || i.book || ':' || i.plan || '='), ('venue:'))
  as s (scope)
where e.event = 'send' and not i.protective and position(' ' || s.scope in ' ' || coalesce(e.generations, '')) = 0;

-- name: traded_products_have_a_breaker
--   BRK-3: the row of each product that was ever ordered.
select distinct 'product:' || i.book || ':' || i.product || ' has no breaker row' from keel.intent i
where not exists (select from keel.breaker b where b.scope = 'product:' || i.book || ':' || i.product);

-- name: late_runs_keep_their_policy
--   ORD-10: a run that came too late sent nothing, or nothing that adds risk, as its policy says.
select e.client_order_id || ' was sent in slot ' || i.slot || ', whose late run was to ' || c.policy
from keel.cycle c join keel.intent i on (i.book, i.plan) = (c.book, c.plan)
  and i.slot = c.plan || '@' || to_char(c.slot_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
join keel.order_event e using (client_order_id)
where e.event = 'send' and e.at >= c.started_at and (c.policy = 'skip' or (c.policy = 'reduce_only' and i.side = 'buy'));

-- name: orders_have_an_approval
select i.client_order_id || ' in slot ' || i.slot from keel.intent i
where not exists (select from keel.evaluation e where e.approved
  and (e.book, e.plan, e.slot, e.product, e.leg) = (i.book, i.plan, i.slot, i.product, i.leg));

-- name: configurations_match_their_hash
--   CFG-1
select sha256 from keel.config_version where sha256 <> encode(sha256(convert_to(body, 'UTF8')), 'hex');

-- name: configurations_precede_their_orders
--   CFG-1: what an order was decided under was on record before it.
select i.client_order_id || ' of ' || i.created_at || ' names a configuration of ' || coalesce(v.at::text, 'no time')
from keel.intent i left join keel.config_version v on v.sha256 = i.plan_sha where v.at is null or v.at > i.created_at;

-- name: orders_were_limited
--   CFG-3: no limit configured means no: every order was decided under a plan that sets all of them.
select distinct i.client_order_id || ' was decided under a plan without ' || coalesce(l.key, 'limits')
from keel.intent i join (
  select v.sha256, l.key from keel.config_version v left join lateral json_each_text(v.body::json -> 'limits') l on true
  where v.kind = 'plan' and (l.key is null or l.value is null)) l on l.sha256 = i.plan_sha;

-- name: nothing_rests_under_a_breaker_that_cancels
--   BRK-4: half a minute after it opened, or a break of severity 1 says why not.
select h.client_order_id || ' rests under ' || b.scope
from keel.order_head h join keel.intent i using (client_order_id)
join keel.breaker b on b.state = 'open' and b.level = 'cancel' and b.scope in (
  'global', 'portfolio:' || h.book, 'strategy:' || h.book || ':' || i.plan, 'product:' || h.book || ':' || i.product)
where h.state in ('open', 'cancelling') and (i.side = 'buy' or b.cause = 'doubt')
  and b.moved_at < clock_timestamp() - interval '30 seconds'
  and not exists (select from keel.recon_break r where r.book = h.book and r.severity = 1 and r.resolved_at is null);

-- name: breaker_is_its_last_event
--   BRK-1
select b.scope || ' is ' || b.state || ' at ' || b.generation || ', its last event says ' || coalesce(e.to_state, 'nothing')
from keel.breaker b left join lateral (
  select * from keel.breaker_event e where e.scope = b.scope order by generation desc limit 1) e on true
where (b.state, b.level, b.generation) is distinct from (e.to_state, e.level, e.generation);

-- name: only_a_person_resumes
--   BRK-2 and BRK-5: out of open leads a person's resume, and nothing else.
select scope || ' generation ' || generation || ': ' || before || ' to ' || to_state || ' by ' || actor from (
  select *, coalesce(lag(to_state) over (partition by scope order by generation), 'none') as before from keel.breaker_event) x
where (before = 'open' and to_state <> 'open' and (to_state <> 'half_open' or actor in ('breaker', 'opening', 'prefect', '')))
   or (before = 'none' and to_state = 'half_open');

-- name: cycles_of_orders_exist
--   SCH-1: an order of a slot belongs to a cycle.
select i.client_order_id || ' in slot ' || i.slot from keel.intent i
where i.slot not like 'hand:%' and not exists (select from keel.cycle c
  where (c.book, c.plan) = (i.book, i.plan)
    and i.slot = c.plan || '@' || to_char(c.slot_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'));

-- name: resumes_are_by_a_human_role
--   BRK-2: the audit row of whatever leads out of open names the role that people act under. Rows of version 1 name none.
select 'audit row ' || a.seq || ': ' || (b.row ->> 'scope') || ' ' || (b.row ->> 'state') || ' by role ' || a.role
from keel.audit a cross join lateral jsonb_array_elements(a.payload::jsonb -> 'breakers') as b (row)
where a.version > 1 and a.payload like '%"breakers":%' and b.row ->> 'from_state' = 'open' and b.row ->> 'state' <> 'open'
  and a.role <> 'keel_human';

-- name: cycles_end
--   SCH-2: a slot that a later one has followed is not still being worked on.
select c.book || ' ' || c.plan || ': slot ' || c.slot_at || ' is claimed since ' || c.started_at from keel.cycle c
where c.state = 'claimed' and exists (
  select from keel.cycle l where (l.book, l.plan) = (c.book, c.plan) and l.slot_at > c.slot_at and l.epoch > c.epoch);

-- name: every_slot_has_a_row
--   SCH-3: from a plan's first slot to its last, each was traded, failed or skipped with a reason. Slots that nobody claimed
--   are written down by the next claim. A replay goes from candle to candle, over whatever lies between.
with slots as (
  select c.book, c.plan, c.slot_at, lag(c.slot_at) over (partition by c.book, c.plan order by c.slot_at) as before,
         (v.body::json ->> 'interval')::interval as step
  from keel.cycle c join keel.config_version v on v.sha256 = c.plan_sha join keel.portfolio p on p.book = c.book
  where p.source not like 'replay:%')
select book || ' ' || plan || ': slot ' || missing || ' has no row'
from slots cross join lateral generate_series(slot_at - step, before + interval '1 second', -step) as missing
union all
select book || ' ' || plan || ': slot ' || slot_at || ' was skipped without a reason' from keel.cycle
where state = 'skipped' and reason = '';

-- name: slots_lie_on_the_grid
--   SCH-5: slots are candle closes in UTC: whole intervals since 1970, whatever a local clock does in March and October.
select c.book || ' ' || c.plan || ': slot ' || c.slot_at || ' is no close of a candle of ' || (v.body::json ->> 'interval')
from keel.cycle c join keel.config_version v on v.sha256 = c.plan_sha
where extract(epoch from c.slot_at) % extract(epoch from (v.body::json ->> 'interval')::interval) <> 0;

-- name: anchored_heads_are_in_the_chain
--   AUD-2 without the file: what the ledger noted of its anchors. The file itself is the proof (`keel verify --anchors`).
select 'row ' || n.seq || ' was anchored with another hash' from keel.anchor n
left join keel.audit a on a.seq = n.seq where a.hash is distinct from n.hash;

-- name: audit_tells_every_row
--   AUD-3: as many rows in each table as the chain tells of: none without its audit row, none gone.
with said as materialized (
  select e.key, e.value from keel.audit a cross join lateral jsonb_each(a.payload::jsonb) e where jsonb_typeof(e.value) = 'array'),
claims as (select seq, payload::jsonb as p from keel.audit where kind in ('cycle.claimed', 'cycle.resumed')),
told (name, rows) as (
  select case key when 'intents' then 'intent' when 'events' then 'order_event' when 'fills' then 'fill'
                  when 'transactions' then 'txn' when 'postings' then 'posting' when 'lots' then 'lot'
                  when 'matches' then 'lot_match' when 'operations' then 'operation' when 'verdicts' then 'verdict'
                  when 'reconciliations' then 'reconciliation' when 'breakers' then 'breaker_event'
                  when 'portfolios' then 'portfolio' when 'movements' then 'movement'
                  when 'announcements' then 'announcement' end, sum(jsonb_array_length(value))
  from said group by 1
  union all                                              -- what may be told twice is written once
  select case key when 'configuration' then 'config_version' when 'accounts' then 'account' when 'evaluations' then 'evaluation'
                  when 'holds' then 'hold' when 'anchors' then 'anchor' when 'venue_orders' then 'venue_order'
                  when 'venue_balances' then 'venue_balance' when 'equity' then 'equity'
                  when 'decisions' then 'decision' end,
         count(distinct case key when 'configuration' then r ->> 'sha256' when 'holds' then r ->> 'client_order_id'
                                 when 'anchors' then r ->> 'seq'
                                 when 'venue_orders' then (r ->> 'book') || ' ' || (r ->> 'exchange_order_id')
                                 when 'venue_balances' then (r ->> 'book') || ' ' || (r ->> 'asset')
                                 when 'decisions' then concat_ws(' ', r ->> 'book', r ->> 'plan', (r ->> 'slot_at')::timestamptz)
                                 when 'equity' then (r ->> 'book') || ' ' || (r ->> 'plan') || ' ' || (r ->> 'at')::timestamptz
                                 else r ->> 'id' end)
  from said cross join lateral jsonb_array_elements(value) r
  where key in ('configuration', 'accounts', 'evaluations', 'holds', 'anchors', 'venue_orders', 'venue_balances', 'equity',
                'decisions')
  group by key
  union all
  select 'cycle', count(distinct (book, plan, slot_at::timestamptz)) from (
    select p ->> 'book' as book, p ->> 'plan' as plan, p ->> 'slot_at' as slot_at from claims
    union all
    select p ->> 'book', p ->> 'plan', jsonb_array_elements_text(p -> 'earlier' -> 'missed') from claims) c),
kept (name, rows) as (
  select 'intent', count(*) from keel.intent union all select 'order_event', count(*) from keel.order_event
  union all select 'fill', count(*) from keel.fill union all select 'txn', count(*) from keel.txn
  union all select 'posting', count(*) from keel.posting union all select 'lot', count(*) from keel.lot
  union all select 'lot_match', count(*) from keel.lot_match union all select 'operation', count(*) from keel.operation
  union all select 'verdict', count(*) from keel.verdict union all select 'reconciliation', count(*) from keel.reconciliation
  union all select 'breaker_event', count(*) from keel.breaker_event union all select 'portfolio', count(*) from keel.portfolio
  union all select 'movement', count(*) from keel.movement union all select 'announcement', count(*) from keel.announcement
  union all select 'config_version', count(*) from keel.config_version union all select 'account', count(*) from keel.account
  union all select 'evaluation', count(*) from keel.evaluation union all select 'hold', count(*) from keel.hold
  union all select 'anchor', count(*) from keel.anchor union all select 'venue_order', count(*) from keel.venue_order
  union all select 'venue_balance', count(*) from keel.venue_balance union all select 'equity', count(*) from keel.equity
  union all select 'decision', count(*) from keel.decision union all select 'cycle', count(*) from keel.cycle)
select name || ' has ' || kept.rows || ' rows, the chain tells of ' || coalesce(told.rows, 0)
from kept left join told using (name) where kept.rows <> coalesce(told.rows, 0)
union all
select 'break ' || b.id || ' is told by no audit row' from keel.recon_break b
where b.class <> 'overdraw' and not exists (
  select from said cross join lateral jsonb_array_elements(value) r where key = 'breaks' and r ->> 'id' = b.id::text);
