-- The Supabase side of the mirror: run once in the project's SQL editor. Safe to run again.
--
-- The runner writes with the service key, which passes row-level security; whoever is logged in may read; nobody else may do
-- anything. Amounts are numeric without a scale: nothing is rounded. A row that was told before is not overwritten by an
-- older one, so that a mirror that tells a batch again shows nothing old in between.

create schema if not exists keel_mirror;

create or replace function keel_mirror.keep_newest() returns trigger language plpgsql as $$
begin
  return case when new.seq < old.seq then old else new end;
end $$;

create table if not exists public.orders (
  key text primary key, client_order_id uuid not null, exchange_order_id text, mode text not null, book text not null,
  plan text not null, slot text not null, product text not null, side text not null, type text not null,
  quantity numeric not null, price numeric, state text not null, filled numeric not null, reason text,
  created_at timestamptz not null, seq bigint not null, recorded_at timestamptz not null
);
create table if not exists public.order_events (
  key text primary key, client_order_id uuid not null, event text not null, from_state text not null, to_state text not null,
  evidence text, seq bigint not null, recorded_at timestamptz not null
);
create table if not exists public.fills (
  key text primary key, book text not null, entry_id text not null, client_order_id uuid not null, product text not null,
  side text not null, quantity numeric not null, price numeric not null, fee numeric not null, fee_asset text not null,
  traded_at timestamptz not null, seq bigint not null, recorded_at timestamptz not null
);
create table if not exists public.positions (
  key text primary key, book text not null, plan text not null, product text not null, quantity numeric not null,
  cost numeric not null, state text not null check (state in ('open', 'closed')), seq bigint not null,
  recorded_at timestamptz not null
);
create table if not exists public.pnl (
  key text primary key, book text not null, plan text not null, at timestamptz not null, equity numeric not null,
  cash numeric not null, realised numeric not null, unrealised numeric not null, fees numeric not null, seq bigint not null,
  recorded_at timestamptz not null
);
create table if not exists public.risk_metrics (          -- ratios of equity; null: it could not be known
  key text primary key, book text not null, plan text not null, at timestamptz not null, daily_loss numeric,
  daily_loss_usd numeric, drawdown numeric, open_positions int, largest_position_share numeric, volatility numeric,
  consecutive_errors int, seq bigint not null, recorded_at timestamptz not null
);
create table if not exists public.breaker_events (
  key text primary key, scope text not null, generation bigint not null, state text not null, level text, reason text,
  seq bigint not null, recorded_at timestamptz not null
);
create table if not exists public.reports (               -- what programs report by themselves
  key text primary key, kind text not null, subject text not null, body jsonb not null,
  reported_at timestamptz not null default now()
);

do $$
declare
  name text;
begin
  foreach name in array array['orders', 'order_events', 'fills', 'positions', 'pnl', 'risk_metrics', 'breaker_events', 'reports'] loop
    execute format('alter table public.%I enable row level security', name);
    execute format('revoke all on public.%I from anon, authenticated', name);
    execute format('grant select on public.%I to authenticated', name);
    execute format('grant select, insert, update on public.%I to service_role', name);
    execute format('drop policy if exists "read when logged in" on public.%I', name);
    execute format('create policy "read when logged in" on public.%I for select to authenticated using (true)', name);
    if name <> 'reports' then
      execute format('create or replace trigger keep_newest before update on public.%I
                      for each row execute function keel_mirror.keep_newest()', name);
    end if;
    -- Realtime tells browsers of each change, where the project has it.
    if exists (select from pg_publication where pubname = 'supabase_realtime')
       and not exists (select from pg_publication_tables where pubname = 'supabase_realtime' and tablename = name) then
      execute format('alter publication supabase_realtime add table public.%I', name);
    end if;
  end loop;
end $$;
