-- A journal of schema version 1, as it was first released. Never change this file.
BEGIN TRANSACTION;
CREATE TABLE checkpoints (
    seq INTEGER PRIMARY KEY REFERENCES events (seq),
    body BLOB NOT NULL
) STRICT;
INSERT INTO "checkpoints" VALUES(2,X'7B226576656E74223A22436865636B706F696E74222C2276656E75655F6D73223A352C227374617465223A7B226B65726E656C5F68617368223A2274657874222C22636C6F636B5F6D73223A352C22737465705F6D73223A6E756C6C2C22626F6F6B73223A5B5D2C2277616974696E67223A6E756C6C2C226F7264657273223A5B5D2C226B657973223A5B5D2C227465726D73223A7B7D2C227374616C65223A7B7D2C22756E6B6E6F776E5F62617273223A5B5D2C22686F6C6473223A7B7D2C226F776E5F686F6C6473223A7B7D2C2274696D657273223A7B7D2C22747261646573223A5B5D2C2274726164655F636F756E74223A372C22666F726569676E223A7B7D2C227065616B5F757364223A302E33303030303030303030303030303030342C2264726177646F776E5F757364223A302E33303030303030303030303030303030342C226C6173745F66696C6C5F6D73223A377D7D');
CREATE TABLE config_changes (
    time_ms INTEGER NOT NULL,
    config_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    size_multiplier REAL NOT NULL,
    change TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (time_ms, generation, change)
) STRICT, WITHOUT ROWID;
INSERT INTO "config_changes" VALUES(7,'text',7,3.00000000000000044408e-01,'text','text');
CREATE TABLE decisions (
    step_ms INTEGER NOT NULL,
    config_id TEXT NOT NULL,
    symbol TEXT NOT NULL,
    verdict TEXT NOT NULL,
    signal INTEGER NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (step_ms, config_id, symbol)
) STRICT, WITHOUT ROWID;
INSERT INTO "decisions" VALUES(7,'text','text','text',7,'text');
CREATE TABLE equity (
    step_ms INTEGER PRIMARY KEY,
    equity_usd REAL NOT NULL,
    cash_usd REAL NOT NULL,
    margin_usd REAL NOT NULL,
    open_positions INTEGER NOT NULL,
    drawdown_usd REAL NOT NULL
) STRICT;
INSERT INTO "equity" VALUES(7,3.00000000000000044408e-01,3.00000000000000044408e-01,3.00000000000000044408e-01,7,3.00000000000000044408e-01);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    event TEXT NOT NULL,
    step_ms INTEGER,
    venue_ms INTEGER,
    seen_ms INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
INSERT INTO "events" VALUES(1,'Fill',60000,NULL,1767312000123,'{"event":"Fill","key":"f1","symbol":"AAA","lots":-3,"lot_decimals":2,"price":0.1,"fee_usd":0.3,"step_ms":60000}');
INSERT INTO "events" VALUES(2,'Checkpoint',NULL,5,1767312000123,'{"event":"Checkpoint","venue_ms":5,"sha256":"63a9b2a13cd1c27c631aaf51f89394b0d6476211b1a832a64ae11b7c076b7057","bytes":344}');
CREATE TABLE fills (
    seq INTEGER NOT NULL,
    part INTEGER NOT NULL,
    key TEXT NOT NULL UNIQUE,
    cloid TEXT NOT NULL,
    config_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    time_ms INTEGER NOT NULL,
    step INTEGER NOT NULL,
    symbol TEXT NOT NULL,
    reason TEXT NOT NULL,
    moment TEXT NOT NULL,
    size REAL NOT NULL,
    price REAL NOT NULL,
    fee_usd REAL NOT NULL,
    cash_usd REAL NOT NULL,
    held REAL NOT NULL,
    signal INTEGER NOT NULL,
    trade INTEGER NOT NULL,
    PRIMARY KEY (seq, part)
) STRICT, WITHOUT ROWID;
INSERT INTO "fills" VALUES(1,1,'f1','text','text','text',7,7,'text','text','text',3.00000000000000044408e-01,3.00000000000000044408e-01,3.00000000000000044408e-01,3.00000000000000044408e-01,3.00000000000000044408e-01,7,7);
CREATE TABLE funding (
    seq INTEGER NOT NULL,
    part INTEGER NOT NULL,
    key TEXT NOT NULL UNIQUE,
    config_id TEXT NOT NULL,
    time_ms INTEGER NOT NULL,
    step INTEGER NOT NULL,
    symbol TEXT NOT NULL,
    usd REAL NOT NULL,
    cash_usd REAL NOT NULL,
    price REAL NOT NULL,
    held REAL NOT NULL,
    trade INTEGER NOT NULL,
    PRIMARY KEY (seq, part)
) STRICT, WITHOUT ROWID;
INSERT INTO "funding" VALUES(1,2,'text','text',7,7,'text',3.00000000000000044408e-01,3.00000000000000044408e-01,3.00000000000000044408e-01,3.00000000000000044408e-01,7);
CREATE TABLE holds (
    name TEXT NOT NULL,
    symbol TEXT NOT NULL,
    owner TEXT NOT NULL,
    effect TEXT NOT NULL CHECK (effect IN ('close_only', 'halt')),
    reason TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    own INTEGER NOT NULL CHECK (own IN (0, 1)),
    lifted_ms INTEGER,
    PRIMARY KEY (name, since_ms)
) STRICT, WITHOUT ROWID;
INSERT INTO "holds" VALUES('text','text','text','halt','text',7,1,7);
CREATE TABLE intents (
    origin TEXT NOT NULL,
    symbol TEXT NOT NULL,
    purpose TEXT NOT NULL,
    attempt INTEGER NOT NULL CHECK (attempt > 0),
    cloid TEXT NOT NULL UNIQUE,
    PRIMARY KEY (origin, symbol, purpose, attempt)
) STRICT, WITHOUT ROWID;
INSERT INTO "intents" VALUES('text','text','text',1,'text');
CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    lane TEXT NOT NULL,
    venue TEXT NOT NULL,
    feed TEXT NOT NULL,
    book_id TEXT NOT NULL CHECK (length(book_id) = 8),
    former_book_ids TEXT NOT NULL,
    machine_id TEXT NOT NULL,
    kernel_hash TEXT NOT NULL,
    anchor_ms INTEGER,
    created_ms INTEGER NOT NULL
) STRICT;
INSERT INTO "meta" VALUES(1,'paper1','synthetic','replay','0123abcd','[]','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','k1',NULL,1767312000123);
CREATE TABLE orders (
    cloid TEXT PRIMARY KEY REFERENCES intents (cloid),
    origin TEXT NOT NULL,
    symbol TEXT NOT NULL,
    purpose TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    config_id TEXT NOT NULL,
    state TEXT NOT NULL,
    lots INTEGER NOT NULL CHECK (lots <> 0),
    lot_decimals INTEGER NOT NULL,
    limit_price TEXT,
    tif TEXT NOT NULL,
    reduce_only INTEGER NOT NULL CHECK (reduce_only IN (0, 1)),
    expires_ms INTEGER NOT NULL,
    oid TEXT NOT NULL,
    filled_lots INTEGER NOT NULL,
    reason TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL
) STRICT;
INSERT INTO "orders" VALUES('text','text','text','text',1,'text','text',7,7,'0.10','text',1,7,'text',7,'text',7,7);
CREATE TABLE positions (
    config_id TEXT NOT NULL,
    symbol TEXT NOT NULL,
    size REAL NOT NULL CHECK (size <> 0.0),
    entry_price REAL NOT NULL,
    stop REAL,
    target REAL,
    margin_usd REAL NOT NULL,
    leverage REAL NOT NULL,
    opened_ms INTEGER NOT NULL,
    trade INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (config_id, symbol)
) STRICT, WITHOUT ROWID;
INSERT INTO "positions" VALUES('text','text',3.00000000000000044408e-01,3.00000000000000044408e-01,3.00000000000000044408e-01,3.00000000000000044408e-01,3.00000000000000044408e-01,3.00000000000000044408e-01,7,7,7);
CREATE TABLE trades (
    trade INTEGER PRIMARY KEY,
    config_id TEXT NOT NULL,
    symbol TEXT NOT NULL,
    side TEXT NOT NULL CHECK (side IN ('long', 'short')),
    entry_ms INTEGER NOT NULL,
    exit_ms INTEGER,
    entry_price REAL NOT NULL,
    exit_price REAL,
    size REAL NOT NULL,
    adds INTEGER NOT NULL,
    partials INTEGER NOT NULL,
    reason TEXT,
    fees_usd REAL NOT NULL,
    funding_usd REAL NOT NULL,
    pnl_usd REAL NOT NULL
) STRICT;
INSERT INTO "trades" VALUES(7,'text','text','long',7,7,3.00000000000000044408e-01,3.00000000000000044408e-01,3.00000000000000044408e-01,7,7,'text',3.00000000000000044408e-01,3.00000000000000044408e-01,3.00000000000000044408e-01);
CREATE TRIGGER events_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events is append-only'); END;
CREATE TRIGGER events_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events is append-only'); END;
CREATE TRIGGER intents_update BEFORE UPDATE ON intents BEGIN SELECT RAISE(ABORT, 'intents is append-only'); END;
CREATE TRIGGER intents_delete BEFORE DELETE ON intents BEGIN SELECT RAISE(ABORT, 'intents is append-only'); END;
CREATE TRIGGER fills_update BEFORE UPDATE ON fills BEGIN SELECT RAISE(ABORT, 'fills is append-only'); END;
CREATE TRIGGER fills_delete BEFORE DELETE ON fills BEGIN SELECT RAISE(ABORT, 'fills is append-only'); END;
CREATE TRIGGER funding_update BEFORE UPDATE ON funding BEGIN SELECT RAISE(ABORT, 'funding is append-only'); END;
CREATE TRIGGER funding_delete BEFORE DELETE ON funding BEGIN SELECT RAISE(ABORT, 'funding is append-only'); END;
CREATE VIEW v_orders AS SELECT cloid, origin, symbol, purpose, attempt, config_id, state, lots, lots / CAST('1e' || lot_decimals AS REAL) AS size, lot_decimals, limit_price, tif, reduce_only, expires_ms, strftime('%Y-%m-%dT%H:%M:%fZ', expires_ms / 1000.0, 'unixepoch') AS expires_utc, oid, filled_lots, filled_lots / CAST('1e' || lot_decimals AS REAL) AS filled_size, reason, created_ms, strftime('%Y-%m-%dT%H:%M:%fZ', created_ms / 1000.0, 'unixepoch') AS created_utc, updated_ms, strftime('%Y-%m-%dT%H:%M:%fZ', updated_ms / 1000.0, 'unixepoch') AS updated_utc FROM orders;
CREATE VIEW v_fills AS SELECT seq, part, key, cloid, config_id, kind, time_ms, strftime('%Y-%m-%dT%H:%M:%fZ', time_ms / 1000.0, 'unixepoch') AS time_utc, step, symbol, reason, moment, size, price, fee_usd, cash_usd, held, signal, trade FROM fills;
CREATE VIEW v_trades AS SELECT trade, config_id, symbol, side, entry_ms, strftime('%Y-%m-%dT%H:%M:%fZ', entry_ms / 1000.0, 'unixepoch') AS entry_utc, exit_ms, strftime('%Y-%m-%dT%H:%M:%fZ', exit_ms / 1000.0, 'unixepoch') AS exit_utc, entry_price, exit_price, size, adds, partials, reason, fees_usd, funding_usd, pnl_usd FROM trades;
CREATE VIEW v_positions AS SELECT config_id, symbol, size, entry_price, stop, target, margin_usd, leverage, opened_ms, strftime('%Y-%m-%dT%H:%M:%fZ', opened_ms / 1000.0, 'unixepoch') AS opened_utc, trade, updated_ms, strftime('%Y-%m-%dT%H:%M:%fZ', updated_ms / 1000.0, 'unixepoch') AS updated_utc FROM positions;
CREATE VIEW v_decisions AS SELECT step_ms, strftime('%Y-%m-%dT%H:%M:%fZ', step_ms / 1000.0, 'unixepoch') AS step_utc, config_id, symbol, verdict, signal, note FROM decisions;
CREATE VIEW v_equity AS SELECT step_ms, strftime('%Y-%m-%dT%H:%M:%fZ', step_ms / 1000.0, 'unixepoch') AS step_utc, equity_usd, cash_usd, margin_usd, open_positions, drawdown_usd FROM equity;
CREATE VIEW v_funding AS SELECT seq, part, key, config_id, time_ms, strftime('%Y-%m-%dT%H:%M:%fZ', time_ms / 1000.0, 'unixepoch') AS time_utc, step, symbol, usd, cash_usd, price, held, trade FROM funding;
CREATE VIEW v_config_changes AS SELECT time_ms, strftime('%Y-%m-%dT%H:%M:%fZ', time_ms / 1000.0, 'unixepoch') AS time_utc, config_id, generation, size_multiplier, change, reason FROM config_changes;
CREATE VIEW v_holds AS SELECT name, symbol, owner, effect, reason, since_ms, strftime('%Y-%m-%dT%H:%M:%fZ', since_ms / 1000.0, 'unixepoch') AS since_utc, own, lifted_ms, strftime('%Y-%m-%dT%H:%M:%fZ', lifted_ms / 1000.0, 'unixepoch') AS lifted_utc FROM holds;
CREATE VIEW v_events AS SELECT seq, event, step_ms, strftime('%Y-%m-%dT%H:%M:%fZ', step_ms / 1000.0, 'unixepoch') AS step_utc, venue_ms, strftime('%Y-%m-%dT%H:%M:%fZ', venue_ms / 1000.0, 'unixepoch') AS venue_utc, seen_ms, strftime('%Y-%m-%dT%H:%M:%fZ', seen_ms / 1000.0, 'unixepoch') AS seen_utc, body FROM events;
CREATE VIEW v_meta AS SELECT 1 AS schema_version, lane, venue, feed, book_id, former_book_ids, machine_id, kernel_hash, anchor_ms, strftime('%Y-%m-%dT%H:%M:%fZ', anchor_ms / 1000.0, 'unixepoch') AS anchor_utc, created_ms, strftime('%Y-%m-%dT%H:%M:%fZ', created_ms / 1000.0, 'unixepoch') AS created_utc FROM meta;
PRAGMA application_id = 1296386378;
PRAGMA user_version = 1;
COMMIT;
