-- Writes fills down and credits what they gained. Returns how many.
create function paper.book(p_account text, p_order text, p_client text, p_product text, p_side text, p_gained text, p_gain numeric,
    p_at timestamptz, p_entries text[], p_quantities numeric[], p_prices numeric[], p_fees numeric[], p_liquidity text[])
returns int language plpgsql as $$
declare
  fills int := cardinality(p_entries);
  fee_asset text := split_part(p_product, '-', 2);
begin
  for i in 1 .. fills loop
    insert into paper.fill (account, entry_id, exchange_order_id, client_order_id, product, side, quantity, price, fee, fee_asset,
                            liquidity, traded_at)
    values (p_account, p_entries[i], p_order, p_client, p_product, p_side, p_quantities[i], p_prices[i], p_fees[i], fee_asset,
            p_liquidity[i], p_at);
  end loop;
  if fills > 0 then
    update paper.balance set available = available + p_gain where account = p_account and asset = p_gained;
    if not found then insert into paper.balance (account, asset, available) values (p_account, p_gained, p_gain); end if;
  end if;
  return fills;
end $$;

-- Takes an order with the fills that it made at once: `spend` leaves the spent asset, `hold` of it goes on hold, `gain`
-- arrives. Returns `placed`, `known` (this order was here before: nothing happens) or `INSUFFICIENT_FUND`.
create function paper.place(p_account text, p_order text, p_client text, p_product text, p_side text, p_type text,
    p_quantity numeric, p_limit numeric, p_stop numeric, p_tif text, p_expires timestamptz, p_status text, p_filled numeric,
    p_fees numeric, p_hold numeric, p_spent text, p_spend numeric, p_gained text, p_gain numeric, p_at timestamptz,
    p_entries text[], p_quantities numeric[], p_prices numeric[], p_fill_fees numeric[], p_liquidity text[])
returns text language plpgsql as $$
declare fills int;                                       -- assigned, not performed: no executor is started for a call
begin
  perform pg_advisory_xact_lock(hashtextextended('paper exchange ' || p_account, 0));
  if exists (select from paper.orders where exchange_order_id = p_order) then return 'known'; end if;
  update paper.balance set available = available - p_spend - p_hold, hold = hold + p_hold
  where account = p_account and asset = p_spent and available >= p_spend + p_hold;
  if not found then return 'INSUFFICIENT_FUND'; end if;
  insert into paper.orders values (p_order, p_account, p_client, p_product, p_side, p_type, p_quantity, p_limit, p_stop, p_tif,
    p_expires, p_status, false, p_filled, p_fees, p_hold, p_at, p_at);
  fills := paper.book(p_account, p_order, p_client, p_product, p_side, p_gained, p_gain, p_at,
                      p_entries, p_quantities, p_prices, p_fill_fees, p_liquidity);
  return 'placed';
end $$;

-- Moves a resting order on: fills out of its hold, a new status, the hold that is left. False when it had moved already:
-- `p_seen` was filled then, and candles after `p_looked` have been looked at.
create function paper.progress(p_order text, p_seen numeric, p_status text, p_triggered boolean, p_looked timestamptz,
    p_filled numeric, p_fees numeric, p_hold numeric, p_spent text, p_spend numeric, p_gained text, p_gain numeric,
    p_entries text[], p_quantities numeric[], p_prices numeric[], p_fill_fees numeric[], p_liquidity text[], p_at timestamptz)
returns boolean language plpgsql as $$
declare
  o paper.orders;
  fills int;
begin
  perform pg_advisory_xact_lock(hashtextextended('paper exchange ' || account, 0))
  from paper.orders where exchange_order_id = p_order;
  select * into o from paper.orders
  where exchange_order_id = p_order and status = 'open' and filled = p_seen and looked_at < p_looked;
  if not found then return false; end if;
  -- Fills are paid out of the hold; what still rests stays held, and the rest of the hold comes back.
  if p_spend + p_hold > o.hold then
    raise exception 'order %: fills of % and a hold of % are more than the % that it held', p_order, p_spend, p_hold, o.hold;
  end if;
  update paper.balance set available = available + o.hold - p_spend - p_hold, hold = hold - o.hold + p_hold
  where account = o.account and asset = p_spent;
  update paper.orders set status = p_status, triggered = p_triggered, looked_at = p_looked, filled = o.filled + p_filled,
    fees = o.fees + p_fees, hold = p_hold where exchange_order_id = p_order;
  fills := paper.book(o.account, p_order, o.client_order_id, o.product, o.side, p_gained, p_gain, p_at,
                      p_entries, p_quantities, p_prices, p_fill_fees, p_liquidity);
  return true;
end $$;

create function paper.cancel(p_account text, p_orders text[]) returns setof text language plpgsql as $$
declare o paper.orders;
begin
  perform pg_advisory_xact_lock(hashtextextended('paper exchange ' || p_account, 0));
  for o in select * from paper.orders
           where account = p_account and exchange_order_id = any (p_orders) and status = 'open' loop
    update paper.balance set available = available + o.hold, hold = hold - o.hold
    where account = o.account and asset = split_part(o.product, '-', case o.side when 'buy' then 2 else 1 end);
    update paper.orders set status = 'cancelled', hold = 0 where exchange_order_id = o.exchange_order_id;
    return next o.exchange_order_id;
  end loop;
end $$;

create function paper.add_deposit(p_account text, p_reference text, p_asset text, p_amount numeric) returns boolean
language plpgsql as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('paper exchange ' || p_account, 0));
  insert into paper.deposit values (p_account, p_reference, p_asset, p_amount) on conflict do nothing;
  if not found then return false; end if;
  insert into paper.balance as b (account, asset, available) values (p_account, p_asset, p_amount)
  on conflict (account, asset) do update set available = b.available + excluded.available;
  return true;
end $$;

-- Moves money or coin without an order, once per entry; false when that entry was there before.
create function paper.move(p_account text, p_entry text, p_kind text, p_asset text, p_amount numeric, p_to_asset text,
    p_to_amount numeric, p_at timestamptz, p_note text) returns boolean
language plpgsql as $$
declare
  leaves boolean := p_kind in ('withdrawal', 'conversion');
begin
  perform pg_advisory_xact_lock(hashtextextended('paper exchange ' || p_account, 0));
  insert into paper.movement (account, entry_id, kind, asset, amount, to_asset, to_amount, at, note)
  values (p_account, p_entry, p_kind, p_asset, p_amount, p_to_asset, p_to_amount, p_at, p_note) on conflict do nothing;
  if not found then return false; end if;
  insert into paper.balance (account, asset, available)
  select p_account, x.asset, 0 from (values (p_asset), (p_to_asset)) as x (asset) where x.asset is not null on conflict do nothing;
  update paper.balance set available = available + case when leaves then -p_amount else p_amount end
  where account = p_account and asset = p_asset;
  update paper.balance set available = available + p_to_amount where account = p_account and asset = p_to_asset;
  return true;
end $$;
