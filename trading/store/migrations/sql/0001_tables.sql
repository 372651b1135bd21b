-- The ledger: orders, books, breaker, cycles and the audit chain. Postgres 15 or later.
--
-- Every change enters by one function, keel.record(kind, payload): the payload is the canonical JSON text of the change,
-- it is applied table by table below, and the same text is one row of the hash chain, all in one transaction.
-- So each transaction has exactly one audit row, and the audit log alone tells everything that was ever written.

create schema keel;

-- What a venue says is never rounded: more than 18 decimals, NaN or infinity are refused, not cut.
-- A rule of one column is a domain's, not the table's: Postgres reads a table's checks anew for every statement.
create domain keel.amount as numeric check (value > -1e20 and value < 1e20 and scale(trim_scale(value)) <= 18);
create domain keel.change as numeric check (value <> 0 and value > -1e20 and value < 1e20 and scale(trim_scale(value)) <= 18);
create domain keel.holding as numeric check (value >= 0 and value < 1e20 and scale(trim_scale(value)) <= 18);
create domain keel.quantity as numeric check (value > 0 and value < 1e20 and scale(trim_scale(value)) <= 18);
create domain keel.side as text check (value in ('buy', 'sell'));
create domain keel.order_type as text check (value in ('market', 'limit', 'stop', 'stop_limit'));
create domain keel.time_in_force as text check (value in ('ioc', 'gtc', 'gtd'));
create domain keel.account_kind as text check (value in ('venue', 'trading', 'fees', 'income', 'equity', 'suspense'));

-- ------------------------------------------------------------------------------------------ configuration, portfolios

create table keel.config_version (
  sha256 text primary key,
  kind   text not null,                                  -- plan
  body   text not null check (sha256 = encode(sha256(convert_to(body, 'UTF8')), 'hex')),
  at     timestamptz not null default clock_timestamp()
);

create table keel.portfolio (
  book       text primary key,                           -- paper:main
  mode       text not null check (mode in ('paper', 'rehearsal', 'live')),
  name       text not null,
  source     text not null,                              -- the market source it was created with, for ever
  cash_asset text not null,
  lot_method text not null check (lot_method in ('fifo')),
  epoch      bigint not null default 0,                  -- fencing: raised by every claim
  created_at timestamptz not null default clock_timestamp(),
  check (book = mode || ':' || name)
);

-- --------------------------------------------------------------------------------------------------- cycles and data

create table keel.cycle (
  book        text not null references keel.portfolio,
  plan        text not null,
  slot_at     timestamptz not null,                      -- candle close
  epoch       bigint not null,
  state       text not null check (state in ('claimed', 'done', 'skipped', 'failed')),
  reason      text not null default '',
  market_at   timestamptz not null,
  plan_sha    text not null references keel.config_version,
  candles_sha text,
  flow_run_id text,
  started_at  timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  summary     jsonb,
  primary key (book, plan, slot_at)
);

create table keel.series (
  id       int generated always as identity primary key,
  source   text not null,
  product  text not null,
  interval text not null,
  unique (source, product, interval)
);

create table keel.candle (
  series  int not null references keel.series,
  start   bigint not null,                               -- epoch seconds, bucket start
  open    float8 not null,
  high    float8 not null,
  low     float8 not null,
  close   float8 not null,
  volume  float8 not null,
  primary key (series, start)
);

create table keel.verdict (
  book    text not null references keel.portfolio,
  plan    text not null,
  slot_at timestamptz not null,
  at      timestamptz not null default clock_timestamp(),
  passed  boolean not null,
  body    jsonb not null
);
create index on keel.verdict (book, plan, slot_at);

create table keel.operation (                            -- what consecutive errors and the error rate are counted over
  id     bigint generated always as identity primary key,
  book   text not null references keel.portfolio,
  plan   text not null,
  at     timestamptz not null default clock_timestamp(),
  kind   text not null,
  ok     boolean not null,
  detail text not null default ''
);
create index on keel.operation (book, plan, id);

create table keel.equity (
  book       text not null references keel.portfolio,
  plan       text not null,
  at         timestamptz not null,                       -- market time
  equity     keel.amount not null,
  cash       keel.amount not null,
  unrealised keel.amount not null,
  realised   keel.amount not null,
  fees       keel.amount not null,
  recorded_at timestamptz not null default clock_timestamp(),
  primary key (book, plan, at)
);

-- -------------------------------------------------------------------------------------------------------- orders

create table keel.transition (
  from_state text not null,
  event      text not null,
  to_state   text not null,
  primary key (from_state, event, to_state)
);

create table keel.evaluation (                           -- one per request, approved or refused
  id       uuid primary key,
  book     text not null references keel.portfolio,
  plan     text not null,
  slot     text not null,
  product  text not null,
  leg      smallint not null,
  approved boolean not null,
  body     jsonb not null,                               -- the request, every check with observed value and limit
  plan_sha text not null references keel.config_version,
  at       timestamptz not null default clock_timestamp()
);
create index on keel.evaluation (book, plan, slot);

create table keel.intent (
  client_order_id uuid primary key,
  book            text not null references keel.portfolio,
  plan            text not null,
  strategy        text not null,
  slot            text not null,
  product         text not null,
  leg             smallint not null,
  side            keel.side not null,
  type            keel.order_type not null,
  quantity        keel.quantity not null,
  limit_price     keel.quantity,
  stop_price      keel.quantity,
  time_in_force   keel.time_in_force not null,
  post_only       boolean not null,
  expires_at      timestamptz,
  protective      boolean not null,
  reason          text not null,
  body            text not null,
  body_sha256     text not null check (body_sha256 = encode(sha256(convert_to(body, 'UTF8')), 'hex')),
  decision_price  keel.quantity not null,
  decided_at      timestamptz not null,                  -- market time
  send_before     timestamptz not null,                  -- wall time: never sent later
  plan_sha        text not null references keel.config_version,
  created_at      timestamptz not null default clock_timestamp(),
  unique (book, strategy, product, slot, leg)
);

create table keel.order_head (
  client_order_id   uuid primary key references keel.intent,
  book              text not null,
  state             text not null default 'staged',
  seq               int not null default 0,
  exchange_order_id text,
  filled            keel.amount not null default 0,
  reason            text not null default '',
  sent_at           timestamptz,
  updated_at        timestamptz not null default clock_timestamp()
);
create unique index on keel.order_head (book, exchange_order_id) where exchange_order_id is not null;
create index order_live on keel.order_head (book)
  where state in ('staged', 'sending', 'in_doubt', 'open', 'cancelling');

create table keel.order_event (
  client_order_id uuid not null references keel.order_head,
  seq             int not null,
  from_state      text not null,
  event           text not null,
  to_state        text not null,
  evidence        text not null default '',
  epoch           bigint,                                -- of a send: the fencing epoch it was sent under
  generations     text,                                  -- of a send: scope=generation of each breaker row that it locked
  at              timestamptz not null default clock_timestamp(),
  primary key (client_order_id, seq),
  foreign key (from_state, event, to_state) references keel.transition
);

-- -------------------------------------------------------------------------------------------------------- books

create table keel.account (
  id      uuid primary key,
  name    text not null unique,
  book    text not null references keel.portfolio,
  plan    text not null,
  kind    keel.account_kind not null,
  asset   text not null,
  product text not null,
  posted  keel.amount not null default 0,
  held    keel.holding not null default 0,
  unique (id, asset)
) with (fillfactor = 50);                                -- room for balances to change in place
create index on keel.account (book, plan);

create table keel.hold (                                 -- what a live order reserves; zero once it is closed
  client_order_id uuid primary key references keel.intent,
  account_id      uuid not null references keel.account,
  amount          keel.holding not null,
  before          keel.holding not null default 0        -- the amount before its last change
);

create table keel.fill (
  book              text not null,                       -- of its order
  entry_id          text not null,
  trade_id          text not null,
  exchange_order_id text not null,
  client_order_id   uuid not null references keel.intent,
  product           text not null,
  side              keel.side not null,
  quantity          keel.quantity not null,
  price             keel.quantity not null,
  fee               keel.amount not null,
  fee_asset         text not null,
  liquidity         text not null,
  traded_at         timestamptz not null,
  seen_at           timestamptz not null default clock_timestamp(),
  primary key (book, entry_id)
);
create index on keel.fill (client_order_id);

create table keel.txn (
  id           uuid primary key,
  kind         text not null,
  source_type  text not null,
  source_id    text not null,
  effective_at timestamptz not null,
  posted_at    timestamptz not null default clock_timestamp(),
  unique (source_type, source_id, kind)
);

create table keel.posting (
  txn_id     uuid not null references keel.txn,
  line       smallint not null,
  account_id uuid not null,
  asset      text not null,
  amount     keel.change not null,
  primary key (txn_id, line),
  foreign key (account_id, asset) references keel.account (id, asset)   -- a line in the wrong asset cannot exist
);

create table keel.lot (
  id            uuid primary key,
  book          text not null references keel.portfolio,
  plan          text not null,
  product       text not null,
  txn_id        uuid not null references keel.txn,
  quantity      keel.quantity not null,
  cost          keel.holding not null,
  acquired_at   timestamptz not null,
  left_quantity keel.holding not null,
  left_cost     keel.holding not null,
  check (left_quantity <= quantity and left_cost <= cost and (left_quantity > 0 or left_cost = 0))
);
create index on keel.lot (book, plan, product) where left_quantity > 0;

create table keel.lot_match (
  txn_id   uuid not null references keel.txn,
  line     smallint not null,
  lot_id   uuid not null references keel.lot,
  quantity keel.quantity not null,
  cost     keel.holding not null,
  proceeds keel.amount not null,
  primary key (txn_id, line)
);

-- ------------------------------------------------------------------------------------- breaker, breaks, audit chain

create table keel.breaker (
  scope         text primary key,                        -- global, venue:V, portfolio:B, strategy:B:P, product:B:PRODUCT
  state         text not null check (state in ('closed', 'open', 'half_open')),
  level         text check (level in ('reduce_only', 'no_new', 'cancel')),
  generation    bigint not null,
  reason        text not null,
  opened_at     timestamptz,
  opened_by     text not null,
  resumable_at  timestamptz,                             -- end of the cool-down
  resumed_at    timestamptz,
  resumed_by    text not null,
  resume_reason text not null,
  test_until    timestamptz,                             -- half-open: may close then, on the authority of that resume
  updated_at    timestamptz not null,                    -- market time
  check ((state = 'open') = (level is not null))
);

create table keel.breaker_event (
  scope      text not null references keel.breaker,
  generation bigint not null,
  from_state text,
  to_state   text not null,
  level      text,
  reason     text not null,
  actor      text not null,
  violations jsonb not null,                             -- what tripped: code, observed, limit
  at         timestamptz not null,
  primary key (scope, generation)
);

create table keel.recon_break (
  id          uuid primary key,
  book        text not null references keel.portfolio,
  class       text not null,
  severity    smallint not null check (severity between 1 and 3),
  subject     text not null,
  asset       text not null default '',                  -- frozen while the break is open
  ours        text not null,
  theirs      text not null,
  opened_at   timestamptz not null default clock_timestamp(),
  resolved_at timestamptz,
  resolution  text,
  resolved_by text,
  check ((resolved_at is null) = (resolution is null) and (resolved_at is null) = (resolved_by is null))
);
create unique index one_open_break on keel.recon_break (book, class, subject) where resolved_at is null;

create table keel.reconciliation (
  book     text not null references keel.portfolio,
  at       timestamptz not null default clock_timestamp(),
  clean    boolean not null,
  body     jsonb not null
);
create index on keel.reconciliation (book, at);

create table keel.audit (
  seq         bigint primary key,
  version     smallint not null,
  at          text not null,
  actor       text not null,
  kind        text not null,
  flow_run_id text not null,
  task_run_id text not null,
  payload     text not null,
  prev        bytea not null,
  hash        bytea not null unique
) with (toast_tuple_target = 8160);                      -- an ordinary payload stays in its row, uncompressed
create table keel.audit_head (
  id   boolean primary key default true check (id),
  seq  bigint not null,
  hash bytea not null,
  prev bytea not null                                    -- the hash before it
);
insert into keel.audit_head (seq, hash, prev) values (0, sha256('keel'), '');
create index on keel.intent (book, plan, decided_at);

insert into keel.transition values
  ('absent', 'ack', 'open'),
  ('cancelled', 'fill', 'cancelled'),
  ('cancelling', 'cancel_refused', 'open'),
  ('cancelling', 'cancelled', 'cancelled'),
  ('cancelling', 'expire', 'expired'),
  ('cancelling', 'fill', 'cancelling'),
  ('cancelling', 'fill', 'filled'),
  ('expired', 'fill', 'expired'),
  ('filled', 'fill', 'filled'),
  ('in_doubt', 'ack', 'open'),
  ('in_doubt', 'prove_absent', 'absent'),
  ('in_doubt', 'reject', 'rejected'),
  ('in_doubt', 'send', 'sending'),
  ('open', 'cancel_sent', 'cancelling'),
  ('open', 'cancelled', 'cancelled'),
  ('open', 'expire', 'expired'),
  ('open', 'fill', 'filled'),
  ('open', 'fill', 'open'),
  ('open', 'reject', 'rejected'),
  ('rejected', 'fill', 'rejected'),
  ('sending', 'abandon', 'abandoned'),
  ('sending', 'ack', 'open'),
  ('sending', 'doubt', 'in_doubt'),
  ('sending', 'reject', 'rejected'),
  ('sending', 'send', 'sending'),
  ('staged', 'abandon', 'abandoned'),
  ('staged', 'send', 'sending');
