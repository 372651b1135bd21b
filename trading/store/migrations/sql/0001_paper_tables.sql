-- The paper exchange's own books: what a venue would know. The ledger never reads them, it asks the exchange.
-- One call of a function is one round trip and one commit, made before the exchange answers.
-- Whatever changes an account takes its advisory lock first: two processes on one account work one after the other, see
-- each other's orders, and cannot deadlock over the two balances that a trade moves.
--
-- What an order says comes from our own matching and is checked there. Where a wrong number would end, in the balances,
-- the books check for themselves.

create schema paper;

-- Never overdrawn, never NaN or infinite (both are above 1e20). A domain: Postgres reads a table's checks anew for every
-- statement.
create domain paper.balance_amount as numeric check (value >= 0 and value < 1e20);

create table paper.balance (
  account   text not null,                               -- paper:main
  asset     text not null,
  available paper.balance_amount not null,
  hold      paper.balance_amount not null default 0,
  primary key (account, asset)
) with (fillfactor = 20);                                -- hot rows: room for many versions on their own page

create table paper.deposit (
  account   text not null,
  reference text not null,                               -- the same deposit twice is one deposit
  asset     text not null,
  amount    paper.balance_amount not null,
  primary key (account, reference)
);

create table paper.orders (
  exchange_order_id text primary key,                    -- derived from account and client id: the same order, the same id
  account           text not null,
  client_order_id   text not null,
  product           text not null,
  side              text not null,
  type              text not null,
  quantity          numeric not null,
  limit_price       numeric,
  stop_price        numeric,
  time_in_force     text not null,
  expires_at        timestamptz,
  status            text not null,                       -- open, filled, cancelled, expired
  triggered         boolean not null,                    -- a stop that has been reached
  filled            numeric not null,
  fees              numeric not null,
  hold              numeric not null,
  created_at        timestamptz not null,
  looked_at         timestamptz not null                 -- candles up to here have been matched against it
);
create index on paper.orders (account, created_at);
create index paper_resting on paper.orders (account) where status = 'open';

create table paper.fill (
  id                bigint generated always as identity, -- in the order in which they happened
  account           text not null,
  entry_id          text primary key,                    -- derived from the order and what was filled before
  exchange_order_id text not null,
  client_order_id   text not null,
  product           text not null,
  side              text not null,
  quantity          numeric not null,
  price             numeric not null,
  fee               numeric not null,
  fee_asset         text not null,
  liquidity         text not null,
  traded_at         timestamptz not null
);
create index on paper.fill (account, traded_at);

