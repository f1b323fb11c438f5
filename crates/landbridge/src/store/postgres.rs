//! Records in Postgres, which the processes of many machines may share.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgQueryResult};
use sqlx::{ConnectOptions as _, Connection as _, Postgres};

use super::sql::{Dialect, Sql, Unopened, migrate, words};

/// How many connections one process has. Postgres has a hundred, unless it is told otherwise.
const CONNECTIONS: u32 = 8;
/// How long the first connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a connection is waited for afterwards, when all are in use or none can be had.
const ACQUIRE: Duration = Duration::from_secs(5);

/// What a URL may say behind its `?`.
const PARAMETERS: [&str; 12] = [
    "application_name",
    "dbname",
    "host",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

static DIALECT: Dialect<Postgres> = Dialect {
    name: "postgres",
    // The lock is let go when the transaction ends, by our end too. Its number is ours alone. Whoever waits for it has to
    // see afterwards what the one before did, so that the isolation is said.
    begin: "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock(7812443091665430117)",
    is_begun: "SELECT (to_regclass('store_version') IS NOT NULL)::int::bigint",
    // Keys are compared as bytes, whatever the language of the database.
    steps: &[r#"CREATE TABLE records (
                    kind TEXT COLLATE "C" NOT NULL, key TEXT COLLATE "C" NOT NULL, value TEXT NOT NULL, expires_s BIGINT,
                    PRIMARY KEY (kind, key)
                );
                CREATE INDEX records_expiring ON records (expires_s) WHERE expires_s IS NOT NULL"#],
    // Two that sweep at once sweep different records, instead of waiting for each other's.
    sweep: "DELETE FROM records WHERE (kind, key) IN \
            (SELECT kind, key FROM records WHERE expires_s <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)",
    n_affected: PgQueryResult::rows_affected,
};

/// Opens the database at this URL, and makes the tables if there are none.
pub(super) async fn open(url: &str) -> Result<Sql<Postgres>, String> {
    let options = options(url)?;
    let place = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    // A connection of its own: a pool would not say why there is none.
    begin(&options).await.map_err(|unopened| match unopened {
        Unopened::Refused(why) => format!("the store in Postgres at {place} {why}"),
        Unopened::Failed(e) => format!("the store in Postgres at {place} cannot be opened: {}", words(&e)),
    })?;
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(ACQUIRE).acquire_slow_threshold(ACQUIRE);
    let pool = pool.connect_lazy_with(options);
    Ok(Sql { reads: pool.clone(), writes: pool, dialect: &DIALECT })
}

async fn begin(options: &PgConnectOptions) -> Result<(), Unopened> {
    let Ok(connection) = tokio::time::timeout(CONNECT, options.connect()).await else {
        return Err(Unopened::Refused(format!("did not answer within {} s", CONNECT.as_secs())));
    };
    let mut connection = connection?;
    migrate(&mut connection, &DIALECT).await?;
    Ok(connection.close().await?)
}

/// How to connect. Messages hold nothing of the URL but names of parameters.
fn options(url: &str) -> Result<PgConnectOptions, String> {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let behind = rest.find(['/', '?', '#']).map_or("", |at| &rest[at..]);
    // Else a part of the password would be taken for the host or the database, and shown as such.
    if behind.contains('@') || behind.contains('#') {
        return Err("the store's URL has a character, in its password perhaps, that means something else in a URL; \
                    write `/` as %2F, `?` as %3F, `#` as %23, `@` as %40"
            .into());
    }
    let parameters = behind.split_once('?').map_or("", |(_, parameters)| parameters);
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        // They would be ignored, and logged with their values.
        let name = parameter.split_once('=').map_or(parameter, |(name, _)| name);
        if !PARAMETERS.contains(&name) {
            return Err(format!("the store's URL has an unknown parameter; known are {}", PARAMETERS.join(", ")));
        }
    }
    let options: PgConnectOptions =
        url.parse().map_err(|e| format!("the store's URL is not postgres://USER:PASSWORD@HOST:PORT/DATABASE: {e}"))?;
    let options = if options.get_application_name().is_none() { options.application_name("landbridge") } else { options };
    Ok(options.disable_statement_logging())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_repeats_the_password() {
        for url in [
            "postgres:",
            "postgres://",
            "postgres://ada:12/hunter@h/db",
            "postgres://ada:12?hunter@h/db",
            "postgres://ada:12#hunter@h/db",
            "postgres://ada:12#hunter",
            "postgres://ada:hunter@h:port/db",
            "postgres://ada:hunter/x",
            "postgres://ada:hunter@h/db?sslmode=hm",
            "postgres://ada:hunter@h/db?port=hm",
            "postgres://h/db?pasword=hunter",
            "postgres://h/db?hunter",
        ] {
            if let Err(said) = options(url) {
                assert!(!said.contains("hunter") && !said.contains("12"), "{url}: {said}");
            } else {
                assert!(!url.contains("hunter"), "{url} was understood");
            }
        }
        options("postgres://ada:p%2F%40ss@h:5433/db?sslmode=verify-full&sslrootcert=/etc/ca.pem").unwrap();
        options("postgresql://ada:p@ss@h/db").unwrap();
    }
}
