//! A real MCP client: an official SDK, which a script drives.

use crate::{
    install::{node, python},
    script::Script,
};
use serde_json::{Value, json};
use std::path::Path;

/// The SDKs, by language and major.
#[derive(Clone, Copy, Debug)]
pub enum Sdk {
    Python1,
    Python2,
    TypeScript1,
    TypeScript2,
}

impl Sdk {
    pub const ALL: [Self; 4] = [Self::Python1, Self::Python2, Self::TypeScript1, Self::TypeScript2];

    /// Whether it speaks the protocol of 2026-07-28, where a server over HTTP has a way to ask.
    pub fn is_modern(self) -> bool {
        matches!(self, Self::Python2 | Self::TypeScript2)
    }
}

/// Whether the client opens links for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elicitation {
    Url,
    None,
}

pub struct Client(Script);

/// What comes back from a call.
#[derive(Debug)]
pub enum Answer {
    /// The server has the client open this link. The call goes on with [`Client::reply`].
    Link(String),
    /// The result of the tool.
    Result(Value),
    /// An error of the protocol.
    Error(Value),
}

impl Client {
    /// Connects to a server. What the client could show or keep goes to `log`.
    pub async fn connect(sdk: Sdk, server: &Value, elicitation: Elicitation, log: &Path) -> Self {
        Self::try_connect(sdk, server, elicitation, log)
            .await
            .unwrap_or_else(|error| panic!("{sdk:?}: {error}"))
    }

    pub async fn try_connect(
        sdk: Sdk,
        server: &Value,
        elicitation: Elicitation,
        log: &Path,
    ) -> Result<Self, Value> {
        let mut command = match sdk {
            Sdk::Python1 => python(1).await,
            Sdk::Python2 => python(2).await,
            Sdk::TypeScript1 | Sdk::TypeScript2 => node("client.mjs").await,
        };
        match sdk {
            Sdk::TypeScript1 => _ = command.arg("1"),
            Sdk::TypeScript2 => _ = command.arg("2"),
            Sdk::Python1 | Sdk::Python2 => {}
        }
        let modes = if elicitation == Elicitation::Url { json!({"url": {}}) } else { Value::Null };
        let mut script = Script::start(command, log);
        let answer = script.ask(&json!({"server": server, "elicitation": modes})).await;
        if answer["error"].is_null() { Ok(Self(script)) } else { Err(answer["error"].clone()) }
    }

    /// The names of the tools.
    pub async fn tools(&mut self) -> Vec<String> {
        let answer = self.0.ask(&json!({"method": "list"})).await;
        let tools = answer["tools"].as_array().unwrap_or_else(|| panic!("{answer}"));
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    }

    pub async fn call(&mut self, tool: &str, arguments: Value) -> Answer {
        let answer = self.0.ask(&json!({"method": "call", "name": tool, "arguments": arguments})).await;
        Answer::of(&answer)
    }

    /// What a person did with the link: `accept`, `decline` or `cancel`. [`Self::answer`] comes later.
    pub async fn reply(&mut self, action: &str) {
        self.0.send(&json!({"action": action})).await;
    }

    /// How a call ends that went on after a link.
    pub async fn answer(&mut self) -> Answer {
        Answer::of(&self.0.receive().await)
    }

    /// The structured content of a call that needs nobody.
    pub async fn content(&mut self, tool: &str, arguments: Value) -> Value {
        self.call(tool, arguments).await.content()
    }
}

impl Answer {
    fn of(answer: &Value) -> Self {
        if let Some(link) = answer["elicit"]["url"].as_str() {
            return Self::Link(link.to_owned());
        }
        if answer["error"].is_null() {
            Self::Result(answer["result"].clone())
        } else {
            Self::Error(answer["error"].clone())
        }
    }

    #[track_caller]
    pub fn link(self) -> String {
        let Self::Link(link) = self else { panic!("a link is expected: {self:?}") };
        link
    }

    /// The structured content, which the text repeats.
    #[track_caller]
    pub fn content(self) -> Value {
        let Self::Result(result) = self else { panic!("a result is expected: {self:?}") };
        result["structuredContent"].clone()
    }

    /// The code of a refused call, which is a result.
    #[track_caller]
    pub fn refusal(self) -> String {
        let Self::Result(result) = self else { panic!("a result is expected: {self:?}") };
        assert_eq!(result["isError"], true, "{result}");
        let code = result["structuredContent"]["error"]["code"].as_str();
        code.unwrap_or_else(|| panic!("a code is expected: {result}")).to_owned()
    }
}
