use super::*;
use proptest::prelude::*;

const F: &str = "integration_credentials.admin_set_integration_credentials";

fn copy(text: &str) -> String {
    String::from_utf8(redacted(text.as_bytes(), false).unwrap()).unwrap()
}

fn masked(text: &str) -> String {
    let mut masked = text.to_owned().into_bytes();
    mask(&mut masked, false);
    String::from_utf8(masked).unwrap()
}

#[test]
fn a_call_keeps_its_form_and_none_of_its_arguments() {
    for (call, expected) in [
        ("'slack', 's3cret', 'me'", "'<redacted>', '<redacted>', '<redacted>'"),
        ("'', E's3\\'cret'::text", "'', E'<redacted>'::text"),
        ("'slack', U&'s3cret', 'me'", "'<redacted>', U&'<redacted>', '<redacted>'"),
        ("$$s3cret$$, $t$s3(cret$t$", "$$<redacted>$$, $$<redacted>$$"),
        (
            "'s3' || 'cret', 12345678::text, X'1f'",
            "'<redacted>' || '<redacted>', <redacted>::text, X'<redacted>'",
        ),
        (
            "key => $1, value := s3cret, \"value\" => \"s3cret\"",
            "key => $1, value := <redacted>, \"value\" => \"<redacted>\"",
        ),
        (
            "'slack' /* ' */, -- s3cret,\n 's3cret'",
            "'<redacted>' /*<redacted>*/, --<redacted>\n '<redacted>'",
        ),
        ("'slack', name, json", "'<redacted>', <redacted>, json"),
        ("E'a'\n'b\\',s3cret', 'me'", "E'<redacted>'\n'<redacted>', '<redacted>'"),
        ("s3 cret 1\t2 ü", "<redacted>  \t "),
        ("'unterminated", "'<redacted>"),
        ("$v$unterminated", "$$<redacted>"),
        ("/* unterminated", "/*<redacted>"),
    ] {
        let end = if call.contains("unterminated") { "" } else { ")" };
        assert_eq!(copy(&format!("SELECT {F}({call})")), format!("SELECT {F}({expected}{end}"), "{call}");
    }
}

#[test]
fn nothing_that_could_be_a_value_stays() {
    for text in [
        format!("WITH s AS (SELECT 's3cret-s3cret' AS v) SELECT {F}('k', s.v, 'me') FROM s"),
        format!("DO $$ DECLARE v text := 's3cret-s3cret'; BEGIN PERFORM {F}('k', v, 'me'); END $$"),
        format!(
            "DO $s3cret$ BEGIN EXECUTE $q$SELECT {F}($1, $2, $3)$q$ USING 'k', 's3cret', 'me'; END $s3cret$"
        ),
        "DO $$ BEGIN EXECUTE format('SELECT %I(%L)', 'admin_set_integration_credentials', 's3cret'); END $$"
            .into(),
        format!("PREPARE \"s3cret\" AS SELECT {F}($1, $2, $3); EXECUTE q('k', 's3cret', 'me')"),
        format!("SELECT {F}(slack, s3cret, 1.5e3s3cret, $4111111111111111)"),
        format!("SELECT {F}('k', 'ab's3cret!s-3%c^r(e~t','me')"),
        format!(r#"{{"Query Text": "SELECT {F}('k', 's\"s3cret', 's3cret')", "Output": ["'s3cret'"]}}"#),
        format!("SQL statement \"SELECT {F}('k', v, 's3cret')\""),
        format!("can't: SELECT {F}('k', 's3cret', 'me')"),
        format!("»s3cret« {F}"),
    ] {
        for hidden in [copy(&text), masked(&text)] {
            assert!(
                !hidden.contains("s3cret")
                    && !hidden.contains(['!', '%', '^', '~'])
                    && !hidden.contains("4111"),
                "{hidden}"
            );
            assert!(names_one(hidden.as_bytes()), "{hidden}");
        }
    }
}

#[test]
fn names_are_found_in_every_spelling() {
    for text in [
        "SELECT ADMIN_SET_INTEGRATION_CREDENTIALS('k')",
        "select \"admin_set_integration_credentials\" (1)",
        "SELECT integration_credentials . sync_aggregator_credentials/**/(1)",
        "SELECT U&\"\\0061dmin_set_integration_credentials\"('k')",
        "SELECT u&\"!0061dmin!+00005Fset_integration_credentials\" uescape '!' ('k')",
        "DO E'BEGIN PERFORM admin\\x5fset\\137integration\\u005fcredentials(1); END'",
        "DO E'BEGIN PERFORM admin_set_integration\\U0000005fcredentials(1); END'",
        "DO E'BEGIN\\nPERFORM\\tadmin_set_integration_credentials(1); END'",
        "DO 'BEGIN PERFORM admin_set_'\n 'integration_credentials(1); END'",
        "DO 'BEGIN PERFORM admin_set_' -- it's\n --\n 'integration_credentials(1); END'",
        "DO 'BEGIN PERFORM admin_set_'\n\u{b}'integration_credentials(1); END'",
        "DO 'BEGIN PERFORM admin_set_' -- it's\r\n-- more\r\n\r\n\t'integration_credentials(1); END'",
        "DO E'BEGIN PERFORM adm\\in_set_inte\\gration_credentials(1); END'",
        "DO E'--x\\nBEGIN PERFORM admin_'  -- comment\n 'set_integration_credentials(1); END'",
        "SELECT f(U&'SELECT U&\"ad\\006din_set_integration\\+00'\n'005Fcredentials\"(1)' UESCAPE '!')",
        "DO U&'BEGIN PERFORM U&\"admin*005fset_integration_c*0' -- '\n '072edentials\" UESCAPE ''*'' (1); END'",
        "SELECT f(U&'SELECT U&\"!!+000061dmin!!005f!!+'\n'000073et_integration_credentials\"' UESCAPE '!')",
        "DO 'BEGIN EXECUTE E''SELECT admin\\x'\n'5fset_integration_credentials(1)''; END'",
        "DO E'BEGIN EXECUTE ''SELECT admin_set_''\\n''integration_credentials(1)''; END'",
        "DO E'BEGIN EXECUTE ''SELECT admin_set_'' --a\\tb\\n''integration_credentials(1)''; END'",
        "DO U&'BEGIN EXECUTE ''SELECT admin_set_''!000a''integration_credentials(1)''; END' UESCAPE '!'",
        "DO '-- BEGIN'\n' PERFORM admin_set_'\n 'integration_credentials(1); END'",
        "DO E'BEGIN EXECUTE E\\'SELECT admin\\\\x5fset_integration_credentials(1)\\'; END'",
        "DO E'BEGIN EXECUTE E\\'SELECT admin\\134x5fset_integration_credentials(1)\\'; END'",
        "DO E'BEGIN EXECUTE U&\\'admin!005fset_integration_credentials\\' UESCAPE \\'!\\'; END'",
        "DO E'BEGIN EXECUTE \\u0055\\x26\\047admin!005fset_integration_credentials\\' UESCAPE \\'!\\'; END'",
        "EXECUTE $$SELECT admin_set_integration_credentials$$ || '(1)'",
        "CREATE TRIGGER t EXECUTE FUNCTION admin_set_integration_credentials('1')",
        "SELECT dblink('SELECT admin_set_integration_credentials(1)')",
        "-- FUNCTION\nadmin_set_integration_credentials(name, text, json)",
        "function admin_set_integration_credentials(name, \"s3cret\")",
        "»admin_set_integration_credentials«",
    ] {
        assert!(names_one(text.as_bytes()), "{text}");
    }
}

#[test]
fn texts_that_name_none_are_left_alone() {
    for text in [
        "",
        "SELECT 1",
        "SELECT integration_credentials.admin_set_integration_credentials_sealed('k', '\\x00', 'me')",
        "GRANT EXECUTE ON FUNCTION integration_credentials.admin_set_integration_credentials(text, text, text) TO alice",
        "ALTER FUNCTION admin_set_integration_credentials OWNER TO alice",
        "function integration_credentials.admin_set_integration_credentials(unknown, unknown) does not exist",
        "permission denied for function admin_set_integration_credentials",
        "SELECT E'\\n' FROM admin_set_integration_credential",
        "SELECT 'admin_set_' || 'integration_credentials'",
        "SELECT a & \"b\"",
        "SELECT current_query(), U&'\\00e4', U&\"d!0061ta\" UESCAPE '!'",
        "SELECT E'menu\\u0026x', '{\"url\": \"?a=1\\u0026b=2\"}'",
        "_credentials & _credentials",
    ] {
        assert!(!names_one(text.as_bytes()), "{text}");
    }
    assert!(executes(b"begin; EXECUTE p") && !executes(b"explain exec ute"));
}

/// The tokens as Postgres' scanner has them: `pg_stat_statements` scans a text again, and raises an error if it cannot.
fn scanned(text: &str) -> Vec<(lexer::Kind, std::ops::Range<usize>)> {
    let mut position = lexer::Position::without_code(false);
    std::iter::from_fn(|| position.next_token(text.as_bytes()))
        .map(|token| (token.kind, token.whole))
        .collect()
}

#[test]
fn a_masked_text_keeps_its_length_and_its_tokens() {
    for text in [
        format!(
            "SELECT {F}('k', 's3cret-s3cret', 'me'), {F}('k', 's', 'me'), {F}('k', 12::text || X'1f', 'me')"
        ),
        format!("WITH s AS (SELECT 's3cret-s3cret' AS v) SELECT {F}('k', s.v, E'm\\'e') FROM s -- 'c'"),
        format!("DO $a$ BEGIN EXECUTE 'SELECT {F}($1, $2, $3)' USING 'k', 's3cret', 'me'; END $a$"),
        format!("SELECT length('a'), $abc$ {F} $___$$abc$, 'b'"),
        format!("SELECT $abc$ {F} $xxx$ $$abc$, 'b'"),
        "SELECT $xxx$admin_set_integration_credentials-$___$$xxx$ ,1.5 ,B'101'\n,$xxx$;sync_aggregator_credentials$a$$xxx$".into(),
        format!("SELECT $a$ $b${F}('x')$b$ $c$ {F}('k', 's3cret', 'me') $a$, 'x', $d$s3cret$d$"),
        format!("SELECT {F}(E'a'\n'b\\'c', U&\"x\", U&'\\00e4', n'x', \"ü\", ü, 1.5e3, $1)"),
    ] {
        let once = masked(&text);
        assert_eq!(once.len(), text.len());
        assert_eq!(scanned(&once), scanned(&text), "{once}");
        assert_eq!(tokens_of(once.as_bytes(), false), tokens_of(text.as_bytes(), false));
        assert_eq!(masked(&once), once);
        assert!(is_masked(once.as_bytes(), false) && !is_masked(text.as_bytes(), false), "{once}");
    }
}

#[test]
fn a_value_that_is_written_out_is_told_from_one_that_is_not() {
    for text in [
        format!("SELECT {F}('k', 's3cret', 'me')"),
        format!("SELECT {F}($1, 's3cret', $2)"),
        format!("SELECT {F}($1, 12345678::text, $2)"),
        format!("SELECT {F}(f('x', (1)), trim('s3cret'), $2)"),
        format!("SELECT {F}(value => 's3cret', key => $1, actor => $2)"),
        format!("SELECT {F}($1, $2, $3), {F}($1, $$s3cret$$, $3)"),
        format!("DO $$ BEGIN PERFORM {F}('k', 's3cret', 'me'); END $$"),
        format!("DO 'BEGIN PERFORM {F}($a$k$a$, $a$s3cret$a$, $a$me$a$); END'"),
        "SELECT sync_aggregator_credentials($1, $2, 's3cret')".to_owned(),
        "EXECUTE p('k', 's3cret', 'me')".to_owned(),
    ] {
        assert!(value_is_written(text.as_bytes(), false), "{text}");
        assert!(value_is_written(masked(&text).as_bytes(), false), "{}", masked(&text));
    }
    for text in [
        format!("SELECT {F}($1, $2, $3)"),
        format!("SELECT {F}('k', $1, 'me'), 'x'"),
        format!("SELECT {F}(key => 'k', value => $1, actor => 'me')"),
        format!("SELECT {F}(f('x', 'y'), $1 /* 'x' */, 'me')"),
        format!("DO $$ BEGIN PERFORM {F}('k', v, 'me'); END $$"),
        "SELECT sync_aggregator_credentials($1, 'k', $2)".to_owned(),
        "EXECUTE p".to_owned(),
        "SELECT 'x'".to_owned(),
    ] {
        assert!(!value_is_written(text.as_bytes(), false), "{text}");
    }
}

#[test]
fn quotations_that_were_cut_are_dropped_and_the_others_are_searched() {
    const LIMIT: usize = 100;
    let long = format!("SELECT 's3cret'\n-- step 8: the name {} is behind the cut", "x".repeat(LIMIT));
    let calls = format!("SELECT {F}('s3cret')");
    let other = "SELECT 'shown',\n 1";
    for (process, separator) in [("Process", ": "), ("Processus", " : "), ("プロセス", ": ")] {
        let waits = |number: u32| {
            format!("{process} {number} waits for ShareLock on transaction 12; blocked by {process} 8.")
        };
        let client = [waits(7), waits(18), waits(9)].join("\n");
        let quote = |number: u32, text: &str| format!("\n{process} {number}{separator}{text}");
        let detail =
            format!("{client}{}{}{}", quote(7, &long[..LIMIT - 1]), quote(18, other), quote(9, &calls));
        let kept = without_cut_quotations(detail.as_bytes(), client.as_bytes(), LIMIT, false).unwrap();
        let expected = format!(
            "{client}{}{}{}",
            quote(7, "<redacted: a long text that may hold a secret>"),
            quote(18, other),
            quote(9, &format!("SELECT {F}('<redacted>')")),
        );
        assert_eq!(String::from_utf8(kept).unwrap(), expected);
    }
    let client = "Process 7 waits.";
    let one = format!("{client} {}", &long[..LIMIT]);
    let kept = without_cut_quotations(one.as_bytes(), client.as_bytes(), LIMIT, false).unwrap();
    assert!(!String::from_utf8(kept).unwrap().contains("s3cret"));
}

#[test]
fn a_node_tree_is_recognised() {
    for tree in ["{QUERY :commandType 1", "   {PLANNEDSTMT \n", "(\n   {QUERY "] {
        assert!(is_node_tree(tree.as_bytes()), "{tree}");
    }
    for other in ["parameters: $1 = 'x'", "{\"status\": 404}", "", "("] {
        assert!(!is_node_tree(other.as_bytes()), "{other}");
    }
}

#[test]
fn secrets_in_the_wrong_place_are_told_from_names() {
    for name in ["slack", "hginsights_v2", "s3", "alice@example.com", "CI Deploy Bot", "ü"] {
        assert!(!looks_secret(name.as_bytes()), "{name}");
    }
    for secret in
        ["sk_live_4eC39HqLyjWDarjtT1zdp7dc", "9f8e7d6c5b4a3f2e", "123e4567-e89b-12d3-a456-426614174000"]
    {
        assert!(looks_secret(secret.as_bytes()), "{secret}");
    }
}

/// Pieces of SQL, whole or broken.
const SCANNED: [&str; 26] = [
    "'a'",
    "'",
    "\"b\"",
    "\"",
    "$$",
    "$a$",
    "$___$",
    "$_$",
    "$xxx$",
    "$1",
    " ",
    "\n",
    "-- c\n",
    "--",
    "/*",
    "*/",
    "E'\\'x'",
    "\\",
    "x'1f'",
    "12.5",
    "abc",
    "e",
    "!=",
    "-",
    "admin_set_integration_credentials",
    "U&'x'",
];

/// Pieces that a text may be made of, each of which once made a pass recurse, or go back.
const PIECES: [&str; 22] = [
    "'",
    "\"",
    "$",
    "$$",
    "$a$",
    "$a1$b",
    "/*",
    "*/",
    "--",
    "\n",
    "\\",
    "\\x5f",
    "E'",
    "U&\"",
    "(",
    ")",
    "'--",
    "\n'",
    "admin_set_integration_credentials(",
    "function  ",
    "\u{e9}",
    "EXECUTE ",
];

#[test]
fn hostile_texts_take_linear_time_and_a_constant_stack() {
    const BYTES: usize = 66 << 10;
    const STACK: usize = 64 << 10;
    let pairs = PIECES.iter().flat_map(|first| PIECES.iter().map(move |second| [*first, *second]));
    let work = move || {
        for pair in pairs {
            let piece = pair.concat();
            let mut text = piece.repeat(BYTES / piece.len() + 1).into_bytes();
            let _ = (names_one(&text), executes(&text), value_is_written(&text, false));
            assert_eq!(redacted(&text, false), Err(Dropped::TooLong), "{piece}");
            mask(&mut text, true);
            let _ = redacted(&text[..MAX_BYTES], true);
        }
    };
    std::thread::Builder::new().stack_size(STACK).spawn(work).unwrap().join().unwrap();
}

#[test]
fn a_masked_word_does_not_end_the_code_around_it() {
    let text = format!("$_${F}$$$_$ {F}('a')");
    assert_eq!(scanned(&masked(&text)), scanned(&text), "{}", masked(&text));
    assert_eq!(masked(&masked(&text)), masked(&text));
}

proptest! {
    #[test]
    fn a_literal_never_survives(secret in "[a-z0-9]{7,12}[a-z0-9'\\\\\"$ü,()-]{7,40}", before in "\\PC{0,20}", after in "\\PC{0,20}") {
            let text = format!("{before} SELECT {F}('k', '{}', 'me'){after}", secret.replace('\'', "''"));
        for hidden in [copy(&text), masked(&text)] {
            let words = secret.split(|next: char| !next.is_alphanumeric());
            for word in words.filter(|word| word.len() > 6 && !known::is_known(word.as_bytes())) {
                prop_assert!(!hidden.replace(F, "").contains(word), "{}", hidden);
            }
        }
    }

    /// But for a symbol, which may become a part of another: to the scanner they are all operators.
    #[test]
    fn a_masked_text_is_scanned_as_before(pieces in proptest::collection::vec(0..SCANNED.len(), 0..20)) {
        let text: String = pieces.into_iter().map(|piece| SCANNED[piece]).collect();
        let text = format!("{text} {F}('a')");
        let tokens = |text: &str| -> Vec<_> { scanned(text).into_iter().filter(|(kind, _)| *kind != lexer::Kind::Symbol).collect() };
        prop_assert_eq!(tokens(&masked(&text)), tokens(&text), "{}", masked(&text));
    }

    #[test]
    fn noise_never_panics(text in "\\PC*") {
        for text in [text.clone(), format!("{F}({text}"), format!("{text} {F}('a',{text}"), format!("EXECUTE p({text}")] {
            let _ = (redacted(text.as_bytes(), true), masked(&text), value_is_written(text.as_bytes(), true));
            let _ = names_one(text.as_bytes());
        }
    }
}
