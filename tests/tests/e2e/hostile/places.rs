//! Where a text may stand that somebody sends who can do no more than connect.

use tests::{Wire, wire::Answer, wire::Statement};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is the statement.
    Statement,
    /// It is the statement, by the extended protocol.
    Parsed,
    /// A literal, which the error quotes.
    Literal,
    /// A parameter, which the error quotes.
    Quoted,
    /// A parameter that nothing is wrong with.
    Logged,
    /// A name in a statement.
    Identifier,
    /// What an error says in all of its parts.
    Raised,
    /// The name of the application.
    ApplicationName,
    /// The name of a prepared statement, of one that there is and of one that there is not.
    PreparedName,
}

impl Place {
    pub const ALL: [Self; 9] = [
        Self::Statement,
        Self::Parsed,
        Self::Literal,
        Self::Quoted,
        Self::Logged,
        Self::Identifier,
        Self::Raised,
        Self::ApplicationName,
        Self::PreparedName,
    ];

    /// Sends it. What the server says is its own affair, as long as it says something.
    pub async fn send(self, wire: &mut Wire, text: &str) -> Answer {
        let parameters = [text];
        let run = |sql| Statement { sql: Some(sql), parameters: &parameters, ..Statement::default() };
        match self {
            Self::Statement => wire.query(text).await,
            Self::Parsed => wire.run(Statement { sql: Some(text), ..Statement::default() }).await,
            Self::Literal => wire.query(&format!("SELECT '{}'::int", text.replace('\'', "''"))).await,
            Self::Quoted => wire.run(run("SELECT $1::text::int")).await,
            Self::Logged => wire.run(run("SELECT length($1::text)")).await,
            Self::Identifier => wire.query(&format!("SELECT \"{}\"", text.replace('"', "\"\""))).await,
            Self::Raised => {
                wire.run(run("SELECT length(set_config('hostile.text', $1, false))")).await;
                wire.query(RAISE).await
            }
            Self::ApplicationName => {
                wire.query(&format!("SET application_name = '{}'", text.replace('\'', "''"))).await
            }
            Self::PreparedName => {
                let sql = "SELECT length($1::text)";
                wire.run(Statement { name: text, sql: Some(sql), parameters: &["x"] }).await;
                wire.query(&format!("EXECUTE \"{}\" ('x')", text.replace('"', "\"\""))).await;
                wire.run(Statement { name: &format!("no {text}"), sql: None, parameters: &[] }).await
            }
        }
    }
}

const RAISE: &str = "DO $do$
    DECLARE hostile text := current_setting('hostile.text');
    BEGIN
        RAISE LOG '%', hostile;
        RAISE NOTICE '%', hostile;
        RAISE EXCEPTION '%', hostile USING DETAIL = hostile, HINT = hostile, COLUMN = hostile;
    END $do$";
