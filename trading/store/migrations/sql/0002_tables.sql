-- What the venue tells is kept, also what is not ours: foreign orders, movements of money and coin, adjusted fills. Transactions
-- can be reversed and posted anew. Lots by other methods, with their origin. The audit row names the database role.

alter table keel.portfolio drop constraint portfolio_lot_method_check,
  add check (lot_method in ('fifo', 'hifo', 'average'));

alter table keel.cycle add column policy text not null default 'run' check (policy in ('run', 'reduce_only', 'skip'));

create index cycle_claimed on keel.cycle (book, plan) where state = 'claimed';

-- A fill of an order that is not ours has no intent. An adjustment names the entry that it takes the place of.
alter table keel.fill alter column client_order_id drop not null,
  add column kind text not null default 'trade' check (kind in ('trade', 'reversal', 'correction', 'synthetic')),
  add column adjusts text,
  add check (kind <> 'reversal' or adjusts is not null),
  add foreign key (book, adjusts) references keel.fill (book, entry_id);
create unique index on keel.fill (book, adjusts) where adjusts is not null;

-- A source is one portfolio's: two venues may use the same entry id.
alter table keel.txn add column book text references keel.portfolio;
update keel.txn t set book = (select a.book from keel.posting p join keel.account a on a.id = p.account_id where p.txn_id = t.id limit 1);
alter table keel.txn alter column book set not null, drop constraint txn_source_type_source_id_kind_key,
  add unique (book, source_type, source_id, kind);
alter table keel.txn add column reverses uuid unique references keel.txn,
  add column seq bigint generated always as identity;     -- the order in which they were posted

alter table keel.lot add column origin text not null default 'fill' check (origin in ('fill', 'deposit', 'income', 'correction')),
  add column basis_known boolean not null default true;
-- A reversal gives back what its original took: the exact negatives.
alter table keel.lot_match alter column quantity type keel.change, alter column cost type keel.amount;

alter domain keel.account_kind drop constraint account_kind_check;
alter domain keel.account_kind add check (value in ('venue', 'trading', 'fees', 'income', 'equity', 'suspense', 'quarantine'));
alter domain keel.order_type drop constraint order_type_check;
alter domain keel.order_type add check (value in ('market', 'limit', 'stop', 'stop_limit', 'bracket'));
alter domain keel.time_in_force drop constraint time_in_force_check;
alter domain keel.time_in_force add check (value in ('ioc', 'gtc', 'gtd', 'fok'));

alter table keel.recon_break add column owner text not null default 'operator';

-- What the venue said when it was last asked: reconciliation writes it, the invariants compare the books with it.
create table keel.venue_order (
  book              text not null references keel.portfolio,
  exchange_order_id text not null,
  client_order_id   text not null,                       -- as the venue told it
  ours              boolean not null,
  product           text not null,
  side              keel.side not null,
  quantity          keel.amount not null,
  limit_price       keel.amount,
  status            text not null,
  raw_status        text not null,
  filled            keel.amount not null,
  fees              keel.amount not null,
  created_at        timestamptz not null,
  seen_at           timestamptz not null default clock_timestamp(),
  primary key (book, exchange_order_id)
);
create index on keel.venue_order (book, client_order_id);

create table keel.venue_balance (
  book      text not null references keel.portfolio,
  asset     text not null,
  available keel.amount not null,
  hold      keel.amount not null,
  seen_at   timestamptz not null default clock_timestamp(),
  primary key (book, asset)
);

-- A person says beforehand what will leave or arrive; what nobody announced opens the breaker.
create table keel.announcement (
  id           uuid primary key,
  book         text not null references keel.portfolio,
  kind         text not null check (kind in ('deposit', 'withdrawal', 'conversion')),
  asset        text not null,
  amount       keel.quantity not null,
  reason       text not null,
  announced_by text not null,
  at           timestamptz not null default clock_timestamp()
);

create table keel.movement (                             -- deposits, withdrawals, conversions, income: not by an order
  book         text not null references keel.portfolio,
  entry_id     text not null,
  kind         text not null check (kind in ('deposit', 'withdrawal', 'conversion', 'income')),
  asset        text not null,
  amount       keel.quantity not null,
  to_asset     text,
  to_amount    keel.quantity,
  happened_at  timestamptz not null,
  note         text not null,
  announcement uuid unique references keel.announcement,
  seen_at      timestamptz not null default clock_timestamp(),
  primary key (book, entry_id),
  check ((kind = 'conversion') = (to_asset is not null) and (to_asset is null) = (to_amount is null))
);

create table keel.anchor (                               -- heads that were signed and written outside of the database
  seq       bigint primary key references keel.audit,
  hash      bytea not null,
  anchored  timestamptz not null
);

alter table keel.audit add column role text not null default '';

insert into keel.transition values
  ('in_doubt', 'not_listed', 'in_doubt'),                -- a complete scan did not find it: several of them prove absence
  ('abandoned', 'ack', 'open'), ('rejected', 'ack', 'open'),                    -- the venue has it all the same: severity 1
  ('open', 'adjust', 'open'), ('cancelling', 'adjust', 'cancelling'), ('filled', 'adjust', 'filled'),
  ('cancelled', 'adjust', 'cancelled'), ('expired', 'adjust', 'expired'), ('rejected', 'adjust', 'rejected');

create table paper.movement (                            -- what happens to an account without an order
  id        bigint generated always as identity,
  account   text not null,
  entry_id  text primary key,
  kind      text not null check (kind in ('deposit', 'withdrawal', 'conversion', 'income')),
  asset     text not null,
  amount    paper.balance_amount not null check (amount > 0),
  to_asset  text,
  to_amount paper.balance_amount,
  at        timestamptz not null,
  note      text not null
);
create index on paper.movement (account, at);

create index txn_allotment on keel.txn (book) where kind = 'allotment';   -- rare, and asked for at every look at a plan

-- A person's word that a plan's portfolio may take risk with real orders, for a day at most. Its end stops new risk only.
create table keel.arming (
  id         uuid primary key,
  book       text not null references keel.portfolio,
  armed_by   text not null,
  reason     text not null,
  armed_at   timestamptz not null,
  expires_at timestamptz not null,                       -- taken back: a later row that ends at once
  check (expires_at >= armed_at and expires_at <= armed_at + interval '24 hours')
);
create index on keel.arming (book, armed_at);

-- Which step of its capital ramp a plan stands on: promoted by a person, demoted by what went wrong.
create table keel.ramp_step (
  id       uuid primary key,
  book     text not null references keel.portfolio,
  plan     text not null,
  step     smallint not null check (step >= 0),
  capital  keel.quantity not null,
  reason   text not null,
  actor    text not null,
  evidence jsonb not null,
  at       timestamptz not null                          -- market time
);
create index on keel.ramp_step (book, plan, at);

-- When each process last said that it is well. No fact of the books: written over, and not told by the chain.
create table keel.heartbeat (
  process       text primary key,
  at            timestamptz not null,
  version       text not null,                           -- of the code
  configuration text not null,
  stopped       boolean not null                         -- it ended as it was told to: its silence is no news
);

-- Why a breaker is open decides which resting orders go. Market time may be a replay's: when it moved is told by the wall as well.
alter table keel.breaker add column cause text check (cause in ('loss', 'doubt', 'person')),
  add column moved_at timestamptz not null default clock_timestamp();

create index intent_product on keel.intent (book, plan, product, decided_at);   -- entries in a row are counted from the last sale

-- All that a slot was decided on, and what it came to, as the text that it is derived from again. The candles are named by hash.
create table keel.decision (
  book     text not null references keel.portfolio,
  plan     text not null,
  slot_at  timestamptz not null,
  plan_sha text not null references keel.config_version,
  code     text not null,                                -- SHA-256 of the code that decides
  seen     text not null,
  decided  text not null,
  at       timestamptz not null default clock_timestamp(),
  primary key (book, plan, slot_at)
);

create index intent_created on keel.intent (book, plan, created_at);   -- screens ask for the newest orders and fills
create index fill_traded on keel.fill (book, traded_at);

create table keel.mirror (                               -- how far the chain was told on to a place outside
  name text primary key,
  seq  bigint not null,
  at   timestamptz not null
);
