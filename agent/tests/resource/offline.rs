//! `mock` and `time`, which reach nothing.

use super::support::*;
use pocketci_agent::resource::Stop;
use serde_json::json;

#[tokio::test]
async fn mock_checks_as_its_source_says() {
    let job = Job::new(native(), "mock", Vec::new());
    let check = async |source, from| job.check(&resource("mock", source), from).await;
    let one = |text: &str| vec![version(&[("version", text)])];
    assert_eq!(check(json!({}), None).await.unwrap(), one("mock"));
    assert_eq!(
        check(json!({"initial_version": 1.5}), None).await.unwrap(),
        one("1.5")
    );
    assert_eq!(
        check(json!({"no_initial_version": true}), None)
            .await
            .unwrap(),
        []
    );
    let from = version(&[("version", "9")]);
    assert_eq!(check(json!({}), Some(&from)).await.unwrap(), one("9"));
    assert_eq!(
        check(json!({"force_version": "f"}), Some(&from))
            .await
            .unwrap(),
        one("f")
    );
    let failed = check(json!({"check_failure": "no luck"}), None).await;
    assert_eq!(failed, Err(Stop::Failed { exit_code: 1 }));
    assert!(job.log().await.contains("check failed: no luck"));
    let said = errored(check(json!({"forced_version": "f"}), None).await);
    assert!(said.contains("`forced_version`"), "{said}");
    job.io.stop.cancel();
    let stopped = check(json!({"check_delay": "1h"}), None).await;
    assert_eq!(stopped, Err(Stop::Stopped));
}

#[tokio::test]
async fn mock_gets_and_puts_on_both_drivers() {
    for driver in [native(), docker()] {
        let job = Job::new(driver, "mockputs", Vec::new());
        let source =
            json!({"create_files": {"a/b": "1"}, "metadata": [{"name": "n", "value": "v"}]});
        let mock = resource("mock", source);
        let params = json!({"create_files_via_params": {"c": "2"}, "privileged": true});
        let (fetched, artifact) = job
            .get(&mock, &version(&[("version", "7")]), params)
            .await
            .unwrap();
        assert_eq!(fetched.metadata, [("n".to_owned(), "v".to_owned())]);
        for (path, text) in [
            ("version", "7"),
            ("a/b", "1"),
            ("c", "2"),
            ("privileged", "true"),
        ] {
            assert_eq!(job.read(&artifact, path).await, text);
        }
        let put = job
            .put(&mock, json!({"version": 8, "print_env": true}), &[])
            .await
            .unwrap();
        assert_eq!(put.version, version(&[("version", "8")]));
        let put = job
            .put(&mock, json!({"file": "in/version"}), &[("in", &artifact)])
            .await
            .unwrap();
        assert_eq!(put.version, version(&[("version", "7")]));
        assert!(job.log().await.contains("BUILD_ID=7"));
        let none = job.put(&mock, json!({}), &[]).await;
        assert_eq!(none, Err(Stop::Failed { exit_code: 1 }));
        let said = errored(
            job.put(
                &mock,
                json!({"file": "other/version"}),
                &[("in", &artifact)],
            )
            .await,
        );
        assert!(said.contains("it has: in"), "{said}");
        job.resources.release().await;
    }
    sweep("mockputs").await;
}

#[tokio::test]
async fn time_gets_the_files_of_a_version_and_puts_now() {
    let job = Job::new(native(), "time", Vec::new());
    let time = resource("time", json!({"interval": "1m"}));
    let found = job.check(&time, None).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(job.check(&time, Some(&found[0])).await.unwrap(), found);
    let at = version(&[("time", "2026-01-02T03:04:05Z")]);
    let (fetched, artifact) = job.get(&time, &at, json!({})).await.unwrap();
    assert_eq!(fetched.version, at);
    assert_eq!(
        job.read(&artifact, "timestamp").await,
        "2026-01-02T03:04:05Z"
    );
    assert_eq!(job.read(&artifact, "epoch").await, "1767323045");
    assert!(
        job.put(&time, json!({}), &[])
            .await
            .unwrap()
            .version
            .contains_key("time")
    );
    errored(
        job.get(&time, &version(&[("time", "noon")]), json!({}))
            .await,
    );
}
