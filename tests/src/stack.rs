//! Where the services are. `eval "$(deploy/stack.sh env)"` sets all of it.

use anyhow::Context as _;

/// Addresses of the services.
#[derive(Clone, Debug)]
pub struct Stack {
    /// `postgres://user@host:port`, without a database.
    pub postgres: String,
    /// `host:port` of the broker.
    pub kafka: String,
    /// Base URL of the registry's Confluent API.
    pub registry: String,
}

impl Stack {
    /// Reads the addresses from the environment and says what is missing and how to get it.
    pub fn from_env() -> anyhow::Result<Self> {
        let get = |name: &str| {
            std::env::var(name).with_context(|| {
                format!("{name} is not set; run: deploy/stack.sh up && eval \"$(deploy/stack.sh env)\"")
            })
        };
        Ok(Self {
            postgres: get("PG_DSN")?.trim_end_matches('/').to_owned(),
            kafka: get("BOOTSTRAP")?,
            registry: get("REGISTRY")?.trim_end_matches('/').to_owned(),
        })
    }

    /// The DSN of one database.
    pub fn dsn(&self, database: &str) -> String {
        format!("{}/{database}", self.postgres)
    }
}
