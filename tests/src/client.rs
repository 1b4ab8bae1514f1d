//! The API and its webhooks as a caller sees them.

use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use sha2::Sha256;
use std::time::Duration;

/// A server's API.
#[derive(Clone)]
pub struct Client {
    /// For requests of one's own.
    pub http: reqwest::Client,
    url: String,
}

/// HMAC-SHA256 as hex.
pub fn sign(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

impl Client {
    /// For the server at `url`.
    pub fn new(url: &str) -> Self {
        // A second call only says that it is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(90))
            .build()
            .expect("a client");
        Self {
            http,
            url: url.to_owned(),
        }
    }

    /// A request to a path.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// Status and JSON (or text) of a GET.
    pub async fn get(&self, path: &str) -> reqwest::Result<(u16, Value)> {
        answer(self.request(Method::GET, path).send().await?).await
    }

    /// Status and JSON of a POST.
    pub async fn post(&self, path: &str, body: &Value) -> reqwest::Result<(u16, Value)> {
        answer(self.request(Method::POST, path).json(body).send().await?).await
    }

    /// Sets a pipeline with the native driver; its id.
    pub async fn set(&self, name: &str, content: &str, more: Value) -> String {
        let mut body = json!({ "content": content, "driver": "native" });
        for (key, value) in more.as_object().expect("an object") {
            body[key] = value.clone();
        }
        let request = self
            .request(Method::PUT, &format!("/api/pipelines/{name}"))
            .json(&body);
        let (status, answer) = answer(request.send().await.expect("sent"))
            .await
            .expect("answered");
        assert_eq!(status, 200, "{answer}");
        answer["pipeline"]["id"].as_str().expect("an id").to_owned()
    }

    /// An unsigned webhook.
    pub fn webhook(&self, id: &str) -> RequestBuilder {
        self.request(Method::POST, &format!("/api/webhooks/{id}"))
    }

    /// Waits until a run is over; the run.
    pub async fn finished(&self, run: &str) -> Value {
        crate::until(&format!("run {run} ends"), || async {
            let (_, run) = self.get(&format!("/api/runs/{run}")).await.ok()?;
            (run["finished_at"].is_string()).then_some(run)
        })
        .await
    }

    /// The newest run's id.
    pub async fn newest_run(&self) -> String {
        let (_, page) = self.get("/api/runs?limit=1").await.expect("answered");
        page["items"][0]["id"].as_str().expect("a run").to_owned()
    }

    /// A run's output.
    pub async fn logs(&self, run: &str) -> String {
        let request = self.request(Method::GET, &format!("/api/runs/{run}/logs"));
        request
            .send()
            .await
            .expect("sent")
            .text()
            .await
            .expect("answered")
    }

    /// A run's events so far.
    pub async fn events(&self, run: &str) -> Vec<Value> {
        let (_, list) = self
            .get(&format!("/api/runs/{run}/events?follow=0"))
            .await
            .expect("answered");
        list.as_array().expect("a list").clone()
    }
}

async fn answer(response: Response) -> reqwest::Result<(u16, Value)> {
    let status = response.status().as_u16();
    let text = response.text().await?;
    Ok((
        status,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    ))
}
