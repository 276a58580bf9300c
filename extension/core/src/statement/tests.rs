use super::{Parameters, Reading, Secrets, find};
use proptest::prelude::*;

const F: &str = "integration_credentials.admin_set_integration_credentials";

fn reading() -> Reading<'static> {
    Reading {
        backslashes: false,
        prepared: &|name| match name {
            b"p" => Some(Parameters::Only(vec![2])),
            b"literal" => Some(Parameters::None),
            _ => None,
        },
    }
}

fn redacted(text: &str) -> String {
    match find(text.as_bytes(), reading()) {
        None => text.to_owned(),
        Some(secrets) => String::from_utf8(secrets.redacted(text.as_bytes())).unwrap(),
    }
}

fn secrets(text: &str) -> Secrets {
    find(text.as_bytes(), reading()).unwrap_or_else(|| panic!("no call found in {text}"))
}

#[test]
fn only_the_value_is_taken_out_of_a_plain_call() {
    for (call, expected) in [
        ("'slack', 's3cret', 'me'", "'slack', '<redacted>', 'me'"),
        ("'slack', 's3''cret' , 'me'", "'slack', '<redacted>' , 'me'"),
        ("'slack', E's3\\'cret'::text, 'me'", "'slack', E'<redacted>'::text, 'me'"),
        ("'slack', U&'s3cret', 'me'", "'slack', U&'<redacted>', 'me'"),
        ("'slack', $$s3cret$$, 'me'", "'slack', $$<redacted>$$, 'me'"),
        ("'slack', $t$s3(cret$t$, 'me'", "'slack', $t$<redacted>$t$, 'me'"),
        ("'slack', 's3' || 'cret', 'me'", "'slack', '<redacted>' || '<redacted>', 'me'"),
        ("'slack', 12345678::text, 'me'", "'slack', <redacted>::text, 'me'"),
        ("actor => 'me', key => 'k', value => 's3cret'", "actor => 'me', key => 'k', value => '<redacted>'"),
        ("'k', actor := 'me', \"value\" := 's3cret'", "'k', actor := 'me', \"value\" := '<redacted>'"),
        ("'slack' /* ' */, -- ,\n 's3cret', 'me'", "'slack' /*<redacted>*/, -- ,\n '<redacted>', 'me'"),
    ] {
        assert_eq!(redacted(&format!("SELECT {F}({call}), 'x'")), format!("SELECT {F}({expected}), 'x'"));
    }
    assert!(secrets(&format!("SELECT {F}('k', 's', 'a')")).has_literal);
}

#[test]
fn a_name_is_a_name_however_it_is_written() {
    for name in [
        "ADMIN_SET_INTEGRATION_CREDENTIALS",
        "\"integration_credentials\".\"admin_set_integration_credentials\"",
        "integration_credentials . admin_set_integration_credentials ",
        "admin_set_integration_credentials/* here */",
        "U&\"\\0061dmin_set_integration_credentials\"",
    ] {
        let text = redacted(&format!("SELECT {name}('k', 's3cret', 'me')"));
        assert!(!text.contains("s3cret") && text.contains("<redacted>"), "{text}");
    }
}

#[test]
fn a_wrong_number_of_arguments_hides_all() {
    assert_eq!(redacted(&format!("SELECT {F}('s3cret')")), format!("SELECT {F}('<redacted>')"));
    assert_eq!(
        redacted(&format!("SELECT {F}('a', 'b', 'c', 'd'")),
        format!("SELECT {F}('<redacted>', '<redacted>', '<redacted>', '<redacted>'")
    );
}

#[test]
fn where_the_value_is_elsewhere_every_literal_goes() {
    for text in [
        format!("WITH s AS (SELECT 's3cret' AS v) SELECT {F}('k', s.v, 'me') FROM s"),
        format!("DO $$ DECLARE v text := 's3cret'; BEGIN PERFORM {F}('k', v, 'me'); END $$"),
        format!("DO $$ BEGIN EXECUTE 'SELECT {F}($1, $2, $3)' USING 'k', 's3cret', 'me'; END $$"),
        format!("DO $$ BEGIN EXECUTE $q$SELECT {F}($1, $2, $3)$q$ USING 'k', 's3cret', 'me'; END $$"),
        format!("DO $$ BEGIN PERFORM {F}('k', \"s3cret\", 'me'); END $$"),
        format!("WITH s AS (SELECT \"s3cret\"::text AS v) SELECT {F}('k', s.v, 'me') FROM s"),
        "SELECT U&\"x\"('k', \"s3cret\", 'me')".into(),
        format!("DO $$ BEGIN EXECUTE 'SELECT {F}(''k'', ''s3cret'', ''me'')'; END $$"),
        "DO $$ BEGIN EXECUTE format('SELECT %I(%L)', 'admin_set_integration_credentials', 's3cret'); END $$"
            .into(),
        format!("PREPARE q AS SELECT {F}($1, $2, $3); EXECUTE q('k', 's3cret', 'me')"),
        format!("SELECT {F}('k', \"s3cret\", 'me')"),
        format!("SELECT {F}(slack, s3cret, me)"),
        format!("SELECT {F}('k', (SELECT v FROM t), 'me') /* s3cret */"),
        format!(r#"{{"Query Text": "SELECT {F}('k', 's\"3cret', 's3cret')", "Output": ["'s3cret'"]}}"#),
        format!("SQL statement \"SELECT {F}('k', v, 's3cret')\""),
    ] {
        let text = redacted(&text);
        assert!(!text.contains("s3cret") && text.contains("<redacted>"), "{text}");
    }
}

#[test]
fn the_rest_of_a_do_block_stays() {
    assert_eq!(
        redacted(&format!("DO $$ BEGIN PERFORM {F}('k', 's3cret', 'me'); RAISE 'done'; END $$")),
        format!("DO $$ BEGIN PERFORM {F}('k', '<redacted>', 'me'); RAISE 'done'; END $$")
    );
}

#[test]
fn a_quotation_is_read_as_what_it_quotes() {
    assert_eq!(
        redacted(&format!("SQL statement \"SELECT {F}('k', 's3cret', 'me')\"\nat line 7")),
        format!("SQL statement \"SELECT {F}('k', '<redacted>', 'me')\"\nat line 7")
    );
}

#[test]
fn what_is_redacted_stays_as_it_is() {
    for text in [
        format!("WITH s AS (SELECT 's3cret' AS v) SELECT {F}('k', s.v, 'me') FROM s"),
        format!("SELECT {F}(a, b)"),
    ] {
        let once = redacted(&text);
        assert_eq!(redacted(&once), once);
    }
}

#[test]
fn an_execution_hides_what_the_statement_takes_as_its_value() {
    assert_eq!(redacted("EXECUTE p('k', 's3cret', 'me')"), "EXECUTE p('k', '<redacted>', 'me')");
    assert_eq!(redacted("execute P('k', 's3cret', 'me')"), "execute P('k', '<redacted>', 'me')");
    assert!(find(b"EXECUTE literal", reading()).is_some());
    assert!(find(b"EXECUTE other", reading()).is_none());
    assert_eq!(redacted("EXECUTE other('k', 'shown', 'me')"), "EXECUTE other('k', 'shown', 'me')");
}

#[test]
fn parameters_are_told_by_number() {
    assert_eq!(secrets(&format!("SELECT {F}($1, $2, $3)")).parameters, Parameters::Only(vec![2]));
    assert_eq!(
        secrets(&format!("SELECT {F}(value => $1::text, key => $3, actor => $2)")).parameters,
        Parameters::Only(vec![1])
    );
    assert_eq!(secrets(&format!("SELECT {F}($1, trim($2), $3)")).parameters, Parameters::All);
    assert!(!secrets(&format!("SELECT {F}($1, $2, $3)")).has_literal);
}

#[test]
fn what_is_no_call_is_left_alone() {
    for text in [
        "SELECT 1",
        "SELECT integration_credentials.admin_set_integration_credentials_sealed('k', '\\x00', 'me')",
        "GRANT EXECUTE ON FUNCTION integration_credentials.admin_set_integration_credentials(text, text, text) TO alice",
        "function integration_credentials.admin_set_integration_credentials(unknown, unknown) does not exist",
        "permission denied for function admin_set_integration_credentials",
        "SELECT 'x' FROM pg_proc WHERE proname = 'admin_set_integration_credentials'",
        "SELECT 'integration_credentials.admin_set_integration_credentials(text,text,text)'::regprocedure, 'x'",
        "execute <unnamed>: SELECT 'x'",
    ] {
        assert_eq!(redacted(text), text);
    }
}

#[test]
fn a_masked_text_keeps_its_length_and_its_tokens() {
    for text in [
        format!(
            "SELECT {F}('k', 's3cret-s3cret', 'me'), {F}('k', 's', 'me'), {F}('k', 12::text || X'1f', 'me')"
        ),
        format!("WITH s AS (SELECT 's3cret' AS v) SELECT {F}('k', s.v, E'm\\'e') FROM s -- 'c'"),
        format!("DO $a$ BEGIN EXECUTE 'SELECT {F}($1, $2, $3)' USING 'k', 's3cret', 'me'; END $a$"),
        format!("DO $a$ BEGIN EXECUTE $b$SELECT {F}($1, $2, $3)$b$ USING 'k', 's3cret', \"me\"; END $a$"),
        format!("DO $$ DECLARE v text := 's3cret'; BEGIN PERFORM {F}('k', v, 'me'); END $$"),
        format!("DO $$ BEGIN EXECUTE 'SELECT {F}(''k'', ''s3cret'', ''me'')'; END $$"),
        "DO $$ BEGIN EXECUTE format('SELECT %I(%L)', 'admin_set_integration_credentials', 's3cret'); END $$"
            .into(),
    ] {
        let found = secrets(&text);
        let mut masked = text.clone().into_bytes();
        assert!(!found.is_masked(&masked));
        found.mask(&mut masked);
        assert_eq!(masked.len(), text.len());
        let kinds = |text: &[u8]| -> Vec<_> {
            super::lexer::tokens(text, false).into_iter().map(|token| (token.kind, token.whole)).collect()
        };
        assert_eq!(kinds(&masked), kinds(text.as_bytes()));
        assert!(!String::from_utf8_lossy(&masked).contains("s3cret"));
        // So that it is known for what it is when it is seen again, whichever way.
        let again = find(&masked, reading()).unwrap();
        assert_eq!(again.is_elsewhere, found.is_elsewhere);
        assert!(again.is_masked(&masked), "{}", String::from_utf8_lossy(&masked));
    }
}

proptest! {
    #[test]
    fn a_literal_never_survives(secret in "[a-z0-9'\\\\\"$ü,()-]{12,40}", before in "\\PC{0,20}", after in "\\PC{0,20}") {
        let quoted = secret.replace('\'', "''");
        let before = before.replace(['\'', '"', '$'], "").replace("--", "").replace("/*", "");
        let text = redacted(&format!("{before} SELECT {F}('k', '{quoted}', 'me'){after}"));
        prop_assert!(!text.contains(&quoted), "{}", text);
    }

    #[test]
    fn noise_never_panics(text in "\\PC*") {
        for text in [text.clone(), format!("{F}({text}"), format!("{text} {F}('a',{text}"), format!("EXECUTE p({text}")] {
            let _ = redacted(&text);
        }
    }
}
