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
where a.kind = 'venue' and a.posted < a.held
  and not exists (select from keel.recon_break b where b.book = a.book and b.asset = a.asset and b.resolved_at is null);

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
full join (select name, posted from keel.account where kind = 'income') a on a.name = l.name
where coalesce(l.realised, 0) <> coalesce(-a.posted, 0);

-- name: fills_posted_once
--   FIL-1 and FIL-2
select 'fill ' || f.entry_id || ' has ' || count(t.id) || ' transactions' from keel.fill f
left join keel.txn t on (t.source_type, t.source_id, t.kind) = ('fill', f.entry_id, 'fill')
group by f.book, f.entry_id having count(t.id) <> 1
union all
select 'transaction ' || t.id || ' has no fill' from keel.txn t where t.source_type = 'fill'
  and not exists (select from keel.fill f where f.entry_id = t.source_id);

-- name: fills_add_up_to_orders
--   ORD-7
select o.client_order_id || ' says ' || o.filled || ' filled of ' || i.quantity || ', fills sum to ' || coalesce(f.quantity, 0)
from keel.order_head o join keel.intent i using (client_order_id)
left join (select client_order_id, sum(quantity) as quantity from keel.fill group by 1) f using (client_order_id)
where o.filled <> coalesce(f.quantity, 0) or o.filled > i.quantity or (o.state = 'filled' and o.filled <> i.quantity);

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
--   ORD-5: what each send locked was closed or half-open at that generation, or let exactly this order through.
select e.client_order_id || ' event ' || e.seq || ' under ' || coalesce(nullif(pair, ''), 'no breaker')
from keel.order_event e join keel.intent i using (client_order_id)
cross join lateral unnest(string_to_array(coalesce(nullif(e.generations, ''), '?'), ' ')) as pair
left join keel.breaker_event b
  on b.scope = regexp_replace(pair, '=[0-9]+$', '') and b.generation::text = substring(pair from '=([0-9]+)$')
where e.event = 'send' and not coalesce(
  b.to_state in ('closed', 'half_open') or i.protective or (b.level = 'reduce_only' and i.side = 'sell'), false);

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

-- name: orders_have_an_approval
select i.client_order_id || ' in slot ' || i.slot from keel.intent i
where not exists (select from keel.evaluation e where e.approved
  and (e.book, e.plan, e.slot, e.product, e.leg) = (i.book, i.plan, i.slot, i.product, i.leg));

-- name: configurations_match_their_hash
--   CFG-1
select sha256 from keel.config_version where sha256 <> encode(sha256(convert_to(body, 'UTF8')), 'hex');

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
