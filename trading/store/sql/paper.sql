-- The paper exchange's own books: what a venue would know. The ledger never reads them, it asks the exchange.
-- One call of a function is one round trip and one commit, made before the exchange answers.

create schema paper;

create table paper.balance (
  account   text not null,                               -- paper:main
  asset     text not null,
  available keel.amount not null check (available >= 0),
  hold      keel.amount not null default 0 check (hold >= 0),
  primary key (account, asset)
);

create table paper.deposit (
  account   text not null,
  reference text not null,                               -- the same deposit twice is one deposit
  asset     text not null,
  amount    keel.amount not null,
  primary key (account, reference)
);

create table paper.orders (
  exchange_order_id text primary key,
  account           text not null,
  client_order_id   text not null,
  product           text not null,
  side              text not null check (side in ('buy', 'sell')),
  type              text not null check (type in ('market', 'limit', 'stop', 'stop_limit')),
  quantity          keel.quantity not null,
  limit_price       keel.quantity,
  stop_price        keel.quantity,
  time_in_force     text not null,
  expires_at        timestamptz,
  status            text not null check (status in ('open', 'filled', 'cancelled', 'expired')),
  triggered         boolean not null,                    -- a stop that has been reached
  filled            keel.amount not null,
  fees              keel.amount not null,
  hold              keel.amount not null check (hold >= 0),
  created_at        timestamptz not null,
  looked_at         timestamptz not null,                -- candles up to here have been matched against it
  unique (account, client_order_id)
);
create index on paper.orders (account, created_at);
create index paper_resting on paper.orders (account) where status = 'open';

create table paper.fill (
  account           text not null,
  entry_id          text not null,
  exchange_order_id text not null,
  client_order_id   text not null,
  product           text not null,
  side              text not null,
  quantity          keel.quantity not null,
  price             keel.quantity not null,
  fee               keel.amount not null,
  fee_asset         text not null,
  liquidity         text not null,
  traded_at         timestamptz not null,
  primary key (account, entry_id)
);
create index on paper.fill (account, traded_at);

-- Moves cash and coin: `spend` leaves the spent asset's available, `hold` of it goes on hold; `gain` arrives.
-- False, and nothing moved, when less than `spend` + `hold` is available.
create function paper.move(p_account text, p_spent text, p_spend numeric, p_hold numeric, p_gained text, p_gain numeric)
returns boolean language plpgsql as $$
begin
  update paper.balance set available = available - p_spend - p_hold, hold = hold + p_hold
  where account = p_account and asset = p_spent and available >= p_spend + p_hold;
  if not found then return false; end if;
  if p_gain > 0 then
    insert into paper.balance as b (account, asset, available) values (p_account, p_gained, p_gain)
    on conflict (account, asset) do update set available = b.available + excluded.available;
  end if;
  return true;
end $$;

create function paper.add_fills(p_account text, p_order text, p_client text, p_product text, p_side text, p_fee_asset text,
    p_entries text[], p_quantities numeric[], p_prices numeric[], p_fees numeric[], p_liquidity text[], p_at timestamptz)
returns void language plpgsql as $$
begin
  insert into paper.fill
  select p_account, e.entry, p_order, p_client, p_product, p_side, e.quantity, e.price, e.fee, p_fee_asset, e.liquidity, p_at
  from unnest(p_entries, p_quantities, p_prices, p_fees, p_liquidity) as e (entry, quantity, price, fee, liquidity);
end $$;

-- Takes an order with the fills that it made at once. Returns `placed`, `known` (this client id was here before: nothing
-- happens) or `INSUFFICIENT_FUND`.
create function paper.place(p_account text, p_order text, p_client text, p_product text, p_side text, p_type text,
    p_quantity numeric, p_limit numeric, p_stop numeric, p_tif text, p_expires timestamptz, p_status text, p_filled numeric,
    p_fees numeric, p_hold numeric, p_spent text, p_spend numeric, p_gained text, p_gain numeric, p_at timestamptz,
    p_entries text[], p_quantities numeric[], p_prices numeric[], p_fill_fees numeric[], p_liquidity text[])
returns text language plpgsql as $$
begin
  if exists (select from paper.orders where account = p_account and client_order_id = p_client) then return 'known'; end if;
  if not paper.move(p_account, p_spent, p_spend, p_hold, p_gained, p_gain) then return 'INSUFFICIENT_FUND'; end if;
  insert into paper.orders values (p_order, p_account, p_client, p_product, p_side, p_type, p_quantity, p_limit, p_stop, p_tif,
    p_expires, p_status, false, p_filled, p_fees, p_hold, p_at, p_at);
  if cardinality(p_entries) > 0 then
    perform paper.add_fills(p_account, p_order, p_client, p_product, p_side, split_part(p_product, '-', 2), p_entries,
                            p_quantities, p_prices, p_fill_fees, p_liquidity, p_at);
  end if;
  return 'placed';
exception when unique_violation then return 'known';         -- two processes with the same order: the other was faster
end $$;

-- Moves a resting order on: fills out of its hold, a new status, the hold that is left. False when it had moved already.
create function paper.progress(p_order text, p_seen numeric, p_status text, p_triggered boolean, p_looked timestamptz,
    p_filled numeric, p_fees numeric, p_hold numeric, p_spent text, p_spend numeric, p_gained text, p_gain numeric,
    p_entries text[], p_quantities numeric[], p_prices numeric[], p_fill_fees numeric[], p_liquidity text[], p_at timestamptz)
returns boolean language plpgsql as $$
declare o paper.orders;
begin
  select * into o from paper.orders where exchange_order_id = p_order and status = 'open' and filled = p_seen for update;
  if not found then return false; end if;
  -- What was held comes back first; then the fills are paid, and what still rests is held again.
  update paper.balance set available = available + o.hold, hold = hold - o.hold where account = o.account and asset = p_spent;
  if not paper.move(o.account, p_spent, p_spend, p_hold, p_gained, p_gain) then
    raise exception 'the hold of % does not cover its fills', p_order;
  end if;
  update paper.orders set status = p_status, triggered = p_triggered, looked_at = p_looked, filled = o.filled + p_filled,
    fees = o.fees + p_fees, hold = p_hold where exchange_order_id = p_order;
  if cardinality(p_entries) > 0 then
    perform paper.add_fills(o.account, p_order, o.client_order_id, o.product, o.side, split_part(o.product, '-', 2), p_entries,
                            p_quantities, p_prices, p_fill_fees, p_liquidity, p_at);
  end if;
  return true;
end $$;

create function paper.cancel(p_account text, p_orders text[]) returns setof text language plpgsql as $$
declare o paper.orders;
begin
  for o in select * from paper.orders where account = p_account and exchange_order_id = any (p_orders) and status = 'open'
           order by exchange_order_id for update loop
    update paper.balance set available = available + o.hold, hold = hold - o.hold
    where account = o.account and asset = split_part(o.product, '-', case o.side when 'buy' then 2 else 1 end);
    update paper.orders set status = 'cancelled', hold = 0 where exchange_order_id = o.exchange_order_id;
    return next o.exchange_order_id;
  end loop;
end $$;

create function paper.add_deposit(p_account text, p_reference text, p_asset text, p_amount numeric) returns boolean
language plpgsql as $$
begin
  insert into paper.deposit values (p_account, p_reference, p_asset, p_amount) on conflict do nothing;
  if not found then return false; end if;
  insert into paper.balance as b (account, asset, available) values (p_account, p_asset, p_amount)
  on conflict (account, asset) do update set available = b.available + excluded.available;
  return true;
end $$;
