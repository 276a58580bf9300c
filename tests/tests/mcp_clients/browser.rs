//! Chromium, without a window.

use crate::{install::node, script::Script};
use serde_json::{Value, json};
use std::path::Path;

pub struct Browser(Script);

/// What a screen reader has of an element.
#[derive(Debug)]
pub struct Element {
    pub role: String,
    pub name: String,
    pub description: String,
    pub value: String,
    pub is_focused: bool,
}

impl Browser {
    /// Starts with a profile of its own, which stays for a search.
    pub async fn start(profile: &Path) -> Self {
        let mut command = node("browser.mjs").await;
        command.arg(profile);
        let mut script = Script::start(command, &profile.with_extension("log"));
        assert_eq!(script.receive().await, json!({"done": null}));
        Self(script)
    }

    async fn run(&mut self, step: Value) -> Value {
        let answer = self.0.ask(&step).await;
        assert!(answer["error"].is_null(), "{step}: {}", answer["error"]);
        answer["done"].clone()
    }

    pub async fn open(&mut self, url: &str) {
        self.run(json!({"method": "open", "url": url})).await;
    }

    pub async fn fill(&mut self, label: &str, text: &str) {
        self.run(json!({"method": "fill", "label": label, "text": text})).await;
    }

    /// Types into what has the focus.
    pub async fn type_text(&mut self, text: &str) {
        self.run(json!({"method": "type", "text": text})).await;
    }

    pub async fn press(&mut self, keys: &[&str]) {
        self.run(json!({"method": "press", "keys": keys})).await;
    }

    pub async fn click(&mut self, button: &str) {
        self.run(json!({"method": "click", "button": button})).await;
    }

    /// Waits until the page says this above its form.
    pub async fn says(&mut self, text: &str) {
        self.run(json!({"method": "says", "text": text})).await;
    }

    /// Opens a link and, over HTTP, gives the API key.
    pub async fn enter(&mut self, link: &str, key: Option<&str>) {
        self.open(link).await;
        if let Some(key) = key {
            self.says("Only who asked for this page may use it.").await;
            self.give_key(key).await;
        }
    }

    pub async fn give_key(&mut self, key: &str) {
        self.fill("API key", key).await;
        self.click("Continue").await;
    }

    /// Types a value and has it stored.
    pub async fn store(&mut self, value: &str) {
        self.says("Enter the credential").await;
        self.fill("Credential", value).await;
        self.click("Store").await;
        self.says("Stored at").await;
    }

    /// Pages to come run no script.
    pub async fn without_scripts(&mut self) {
        self.run(json!({"method": "withoutScripts"})).await;
    }

    /// Runs a script before those of every page to come.
    pub async fn before_pages(&mut self, script: &str) {
        self.run(json!({"method": "before", "script": script})).await;
    }

    /// The value of an expression in the page.
    pub async fn evaluate(&mut self, script: &str) -> Value {
        self.run(json!({"method": "evaluate", "script": script})).await
    }

    /// The text that a person sees.
    pub async fn text(&mut self) -> String {
        self.evaluate("document.body.innerText").await.as_str().unwrap().to_owned()
    }

    /// Prefers a colour scheme, in a window of a width.
    pub async fn prefer(&mut self, scheme: &str, width: u32) {
        let media = json!({"colorScheme": scheme});
        self.run(json!({"method": "prefer", "media": media, "width": width, "height": 800})).await;
    }

    pub async fn elements(&mut self) -> Vec<Element> {
        let nodes = self.run(json!({"method": "accessibility"})).await;
        let text = |node: &Value, name: &str| node[name].as_str().unwrap().to_owned();
        let element = |node: &Value| Element {
            role: text(node, "role"),
            name: text(node, "name"),
            description: text(node, "description"),
            value: text(node, "value"),
            is_focused: node["isFocused"] == true,
        };
        nodes.as_array().unwrap().iter().map(element).collect()
    }

    pub async fn screenshot(&mut self, file: &Path) {
        self.run(json!({"method": "screenshot", "path": file})).await;
    }

    /// What the console has complained of since the last time: errors, and violations of the policy.
    pub async fn complaints(&mut self) -> Vec<String> {
        serde_json::from_value(self.run(json!({"method": "complaints"})).await).unwrap()
    }

    /// Ends, with everything written to the profile.
    pub async fn close(mut self) {
        self.run(json!({"method": "close"})).await;
    }
}
