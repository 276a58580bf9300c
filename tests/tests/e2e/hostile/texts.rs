//! Texts that are made of what makes whoever reads them nest, remember, go back or copy.

use fastrand::Rng;

/// A kind of text, with a name of a function in it, of about so many bytes.
pub struct Kind {
    pub name: &'static str,
    pub write: fn(&str, usize) -> String,
}

/// Whatever is repeated, with the name for `NAME`, between a head and a tail.
macro_rules! repeated {
    ($($name:literal: $head:literal, $piece:literal, $tail:literal;)*) => {
        &[$(Kind { name: $name, write: |name, bytes| {
            let [head, piece, tail] = [$head, $piece, $tail].map(|part| part.replace("NAME", name));
            let times = bytes.saturating_sub(head.len() + tail.len()) / piece.len();
            format!("{head}{}{tail}", piece.repeat(times))
        } }),*]
    };
}

/// What Postgres' own scanner reads in linear time: with no space between them, comments take it the square.
const REPEATED: &[Kind] = repeated![
    "calls in calls": "", "NAME(", "";
    "calls in literals in calls": "", "NAME('", "";
    "calls in dollar quotes": "", "NAME($$", "";
    "calls in a row": "SELECT 1", ", NAME('x', $1, \"y\")", "";
    "calls and statements": "", "SELECT NAME('x', 'y', 'z');", "";
    "parentheses": "SELECT NAME", "(", "";
    "parentheses before": "SELECT ", "(", "NAME('x'";
    "brackets of all kinds": "SELECT NAME", "([{", "'x'";
    "brackets that close": "SELECT NAME(", "]})", "'x'";
    "quotes": "SELECT NAME('", "''", "";
    "quotes in a name": "SELECT NAME(\"", "\"\"", "";
    "comments in comments": "SELECT NAME(", "/* ", "'x'";
    "comments in comments before": "", "/* ", "NAME('x'";
    "comments in a row": "SELECT NAME(", "/**/ ", "'x')";
    "lines of comments": "SELECT NAME(", "--'\n", "'x')";
    "escapes": r"SELECT NAME(E'", r"\\\'\x5f\137\u005F", "";
    "escapes in a name": r#"SELECT U&""#, r"\005f\+00005F", r#"", NAME('x')"#;
    "names with escapes of their own": "SELECT NAME(", r#"U&"!0061" UESCAPE '!', "#, "1)";
    "lines that go on": "SELECT NAME('a'\n", "'a'\n", ")";
    "escapes on lines that go on": "SELECT NAME(E'a'\n", "'\\''\n", ")";
    "DO in DO": "", "DO $$ NAME(' DO ", "";
    "EXECUTE": "", "EXECUTE ", "NAME('x')";
    "EXECUTE of statements": "", "EXECUTE p('x', NAME);", "";
    "PREPARE": "", "PREPARE p AS SELECT NAME('x');", "";
    "signatures": "", "GRANT EXECUTE ON FUNCTION NAME(text, text, text) TO x;", "";
    "names": "", "NAME ", "";
    "names with dots": "SELECT a", ".NAME", "('x')";
    "half of a name": "SELECT NAME(", "admin_set_integration_", "'x')";
    "a long word": "SELECT NAME(", "x", ", 'x')";
    "a long number": "SELECT NAME(", "1", ", 'x')";
    "characters of four bytes": "SELECT NAME('", "𝄞", "";
    "spaces": "SELECT NAME", " \t\n", "('x')";
    "dollars": "SELECT NAME(", "$", "'x')";
    "parameters in a log": "NAME(", "parameters: $1 = 'NAME(''x', $2 = ", "'x'";
    "lines of an audit": "", "AUDIT: SESSION,1,1,READ,SELECT,,,\"NAME('x\"\"\",\"", "";
    "trees": "NAME ", "{QUERY :commandType 1 :constvalue 4 [ 16 0 0 0 ] ", "";
    "quotations": "", "\"NAME(\" »NAME(« 'NAME(' ", "";
];

const GROWING: &[Kind] = &[
    Kind {
        name: "dollar quotes, each with a tag of its own",
        write: |name, bytes| format!("{} {name}(", numbered(bytes, |number| format!("$a{number}$"))),
    },
    Kind {
        name: "calls in dollar quotes, each with a tag of its own",
        write: |name, bytes| numbered(bytes, |number| format!("$a{number}$ {name}(")),
    },
    Kind {
        name: "parameters",
        write: |name, bytes| format!("SELECT {name}({}1)", numbered(bytes, |number| format!("${number}, "))),
    },
    Kind {
        name: "names of columns",
        write: |name, bytes| {
            format!("SELECT {name}({}1)", numbered(bytes, |number| format!("\"c{number}\", ")))
        },
    },
    Kind {
        name: "statements that are prepared",
        write: |name, bytes| {
            numbered(bytes, |number| {
                format!("PREPARE p{number} AS SELECT {name}('x'); EXECUTE p{number}('x');")
            })
        },
    },
    Kind {
        name: "code in code",
        write: |name, bytes| {
            let mut code = format!("SELECT {name}('x')");
            while code.len() < bytes / 2 {
                code = format!("DO '{}'", code.replace('\'', "''"));
            }
            format!("{code}; {}", "DO 'x';".repeat(bytes.saturating_sub(code.len()) / 7))
        },
    },
    Kind { name: "a bit of everything", write: |name, bytes| of_everything(name, bytes, 0) },
];

/// All of them.
pub fn kinds() -> impl Iterator<Item = &'static Kind> {
    REPEATED.iter().chain(GROWING)
}

/// A piece for each number.
fn numbered(bytes: usize, piece: impl Fn(usize) -> String) -> String {
    let mut text = String::with_capacity(bytes + 100);
    for number in 0.. {
        if text.len() >= bytes {
            break;
        }
        text += &piece(number);
    }
    text
}

/// Pieces of all of the others at random.
pub fn of_everything(name: &str, bytes: usize, seed: u64) -> String {
    let mut random = Rng::with_seed(seed);
    let others: Vec<_> = kinds().filter(|kind| kind.name != "a bit of everything").collect();
    let mut text = String::with_capacity(bytes + 5000);
    while text.len() < bytes {
        let kind = others[random.usize(..others.len())];
        text += &(kind.write)(name, random.usize(..2000));
        text.push(if random.bool() { ' ' } else { '\n' });
    }
    text
}
