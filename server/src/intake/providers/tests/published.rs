//! Published messages with their signatures, and a few derived from published inputs (reference A.5).

/// Sender, secret, headers, body, now, whether it is good.
pub(super) type Vector = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
    i64,
    bool,
);

pub(super) const SVIX: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(super) const SVIX_ID: (&str, &str) = ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek");
pub(super) const SVIX_TIME: (&str, &str) = ("webhook-timestamp", "1614265330");
pub(super) const COMPLETED: (&str, &str) = ("circleci-event-type", "workflow-completed");
pub(super) const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
pub(super) const PAYLOAD: &str = "payload=%7B%22ref%22%3A%22refs%2Fheads%2Fmain%22%7D";
pub(super) const EVERYBODY: &str = "It's a Secret to Everybody";

pub(super) const VECTORS: &[Vector] = &[
    (
        "github",
        EVERYBODY,
        &[
            ("x-github-event", "push"),
            (
                "x-hub-signature-256",
                "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
            ),
        ],
        "Hello, World!",
        0,
        true,
    ),
    (
        "bitbucket",
        EVERYBODY,
        &[
            ("x-event-key", "repo:push"),
            (
                "x-hub-signature",
                "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9",
            ),
        ],
        "Hello World!",
        0,
        true,
    ),
    (
        "circleci",
        "secret",
        &[
            COMPLETED,
            (
                "circleci-signature",
                "v1=734cc62f32841568f45715aeb9f4d7891324e6d948e4c6c60c0621cdac48623a",
            ),
        ],
        "hello world",
        0,
        true,
    ),
    (
        "circleci",
        "another-secret",
        &[
            COMPLETED,
            (
                "circleci-signature",
                "v1=daa220016c8f29a8b214fbfc3671aeec2145cfb1e6790184ffb38b6d0425fa00",
            ),
        ],
        "lalala",
        0,
        true,
    ),
    (
        "circleci",
        "hunter123",
        &[
            COMPLETED,
            (
                "circleci-signature",
                "v1=9be2242094a9a8c00c64306f382a7f9d691de910b4a266f67bd314ef18ac49fa",
            ),
        ],
        "an-important-request-payload",
        0,
        true,
    ),
    (
        "circleci",
        "secret",
        &[
            COMPLETED,
            (
                "circleci-signature",
                "v1=773ba44693c7553d6ee20f61ea5d2757a9a4f4a44d2841ae4e95b52e4cd62db4",
            ),
        ],
        "foo",
        0,
        true,
    ),
    (
        "circleci",
        "secret",
        &[
            COMPLETED,
            ("circleci-signature", "v1=not-a-valid-signature"),
        ],
        "foo",
        0,
        false,
    ),
    (
        "standard",
        SVIX,
        &[
            SVIX_ID,
            SVIX_TIME,
            (
                "webhook-signature",
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
        ],
        "{\"test\": 2432232314}",
        1_614_265_330,
        true,
    ),
    (
        "standard",
        SVIX,
        &[
            ("svix-id", SVIX_ID.1),
            ("svix-timestamp", SVIX_TIME.1),
            (
                "svix-signature",
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
        ],
        "{\"test\": 2432232314}",
        1_614_265_330,
        true,
    ),
    (
        "standard",
        SVIX,
        &[
            SVIX_ID,
            SVIX_TIME,
            (
                "webhook-signature",
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA=",
            ),
        ],
        "{\"test\": 2432232314}",
        1_614_265_330,
        false,
    ),
    (
        "standard",
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        &[
            ("webhook-id", "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk"),
            ("webhook-timestamp", "1649367553"),
            (
                "webhook-signature",
                "v1,tFtCZ5RDCPxzWQRWXWPgrCgE2frDBe9gjpbWQxnVfsQ= v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            ),
        ],
        "{\"email\":\"test@example.com\",\"username\":\"test_user\"}",
        1_649_367_553,
        true,
    ),
    (
        "standard",
        "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
        &[
            SVIX_ID,
            SVIX_TIME,
            (
                "webhook-signature",
                "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
            ),
        ],
        "{\"test\": 2432232314}",
        1_614_265_330,
        true,
    ),
    (
        "stripe",
        "whsec_test_secret",
        &[(
            "stripe-signature",
            "t=12345,v1=2672d138c9a412830f3bfe2ecc5bfb3277cf6f5b49d0119d77dd6cb64da1257e",
        )],
        "{\n  \"id\": \"evt_test_webhook\",\n  \"object\": \"event\"\n}",
        12_345,
        true,
    ),
    (
        "discord",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        &[
            ("x-signature-timestamp", "1700000000"),
            (
                "x-signature-ed25519",
                "1695961a47c91a1ec033b819b7e87e3dbc583dd0cee6d1fd0216f58ac87b6228ae531ddbf91fb7bc28d7edf7f08604da16f54624f38a6bc0614e4dc13cd47f0f",
            ),
        ],
        "{\"type\":1}",
        1_700_000_000,
        true,
    ),
    (
        "linear",
        "SECRET",
        &[
            ("linear-event", "Issue"),
            (
                "linear-signature",
                "3d91034918ee3b48b939778cce22688adc664301731ea390e6a4fcfb5e925bc6",
            ),
        ],
        "{\"action\":\"create\",\"type\":\"Issue\",\"webhookTimestamp\":1700000000000}",
        1_700_000_000,
        true,
    ),
    (
        "gitlab",
        SVIX,
        &[
            ("x-gitlab-event", "Push Hook"),
            ("webhook-id", "f5e5f430-f57b-4e6e-9fac-d9128cd7232f"),
            ("webhook-timestamp", "1700000000"),
            (
                "webhook-signature",
                "v1,Y/myg5vQU8MFGqCMrWLv8/9DlzRD7giQK0HzUKMLN6A=",
            ),
        ],
        "{\"object_kind\":\"push\"}",
        1_700_000_000,
        true,
    ),
    (
        "gitlab",
        "my-secret-key",
        &[
            ("x-gitlab-event", "Push Hook"),
            ("x-gitlab-token", "my-secret-key"),
        ],
        "{\"object_kind\":\"push\"}",
        0,
        true,
    ),
    (
        "generic",
        "my-secret-key",
        &[(
            "x-webhook-signature",
            "2f3b606030cc86503c2c8806a6d5088b0557e59e640bf9e801689cfeb2db690d",
        )],
        "{\"event\": \"push\", \"ref\": \"refs/heads/main\"}",
        0,
        true,
    ),
    (
        "generic",
        "my-secret-key",
        &[(
            "x-webhook-signature",
            "b0aef5322d01a510bc8bb734b521ef179da0e15eca63d13e0ed70c3a1260d62f",
        )],
        "{\"ref\":\"refs/heads/main\"}",
        0,
        true,
    ),
    (
        "generic",
        "secret",
        &[(
            "x-webhook-signature",
            "f9e66e179b6747ae54108f82f8ade8b3c25d76fd30afde6c395822c530196169",
        )],
        "",
        0,
        true,
    ),
    (
        "generic",
        "test_secret",
        &[(
            "x-webhook-signature",
            "f7f9bd47fb987337b5796fdc1fdb9ba221d0d5396814bfcaf9521f43fd8927fd",
        )],
        "",
        0,
        true,
    ),
    (
        "generic",
        "test_secret",
        &[(
            "x-webhook-signature",
            "bebb1a643997f419b315ddba19e6f5411e1ce7f810ba6d3617ce72823092f363",
        )],
        "{\"obj1\":\"hello\",\"obj2\":\"world\"}",
        0,
        true,
    ),
    (
        "generic",
        "test_secret",
        &[(
            "x-webhook-signature",
            "837da296d05c4fe31f61d5d7ead035099d9585a5bcde87de952012a78f0b0c43",
        )],
        "😀",
        0,
        true,
    ),
    (
        "gitea",
        "secret",
        &[
            FORM,
            ("x-gitea-event", "push"),
            ("x-github-event", "push"),
            (
                "x-gitea-signature",
                "d8f89f0618acd61fe621aa4e64078c0e2bca15d0b578b7f3eb734f55883c5320",
            ),
        ],
        PAYLOAD,
        0,
        true,
    ),
    (
        "github",
        "secret",
        &[
            FORM,
            ("x-github-event", "push"),
            (
                "x-hub-signature-256",
                "sha256=a3ec1fe0bd564ad2a8006d8045549e9afd1b18ef3596f5657aafcd2d7db60c0d",
            ),
        ],
        PAYLOAD,
        0,
        true,
    ),
    (
        "generic",
        "secret",
        &[(
            "x-webhook-signature",
            "f417af3a21bd70379b5796d5f013915e7029f62c580fb0f500f59a35a6f04c89",
        )],
        "{\"a\": \"z\"}",
        0,
        true,
    ),
];
