//! Statements at random: a call, written in whatever way Postgres' scanner and grammar let it be written.

use fastrand::Rng;

/// What a session sends.
#[derive(Clone, Debug)]
pub enum Send {
    /// By the simple protocol.
    Simple(String),
    /// By the extended protocol.
    Extended(String),
    /// By the extended protocol, with a text for a parameter.
    Bind(String, String),
}

/// Who is called.
#[derive(Clone, Copy)]
pub struct Function {
    pub schema: &'static str,
    pub name: &'static str,
}

/// Writes one case.
pub struct Writer<'a> {
    random: &'a mut Rng,
    value: &'a str,
    function: Function,
    /// Whether a backslash escapes in any literal (`standard_conforming_strings` is off).
    backslashes: bool,
    /// Makes the names of what is made differ.
    number: u64,
}

/// What is wrong with a case; most have nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    Cast,
    TooMany,
    NoSchema,
    DoubleQuoted,
    Division,
    Before,
    After,
}

const FAULTS: &[Fault] = &[
    Fault::None,
    Fault::None,
    Fault::None,
    Fault::None,
    Fault::None,
    Fault::None,
    Fault::None,
    Fault::None,
    Fault::Cast,
    Fault::TooMany,
    Fault::NoSchema,
    Fault::DoubleQuoted,
    Fault::Division,
    Fault::Before,
    Fault::After,
];

/// What may stand around the value.
const JUNK: &[&str] = &[
    "",
    "",
    "",
    "'",
    "''",
    r"\",
    r"\'",
    "$$",
    "$a$",
    "--",
    "/*",
    "*/",
    "\"",
    "(",
    ")",
    ", '",
    "$1",
    ";",
    "\n",
    "é",
    "𝄞",
    " E'",
    "'||'",
    "\t",
    "=> ",
    "<redacted>",
];

/// Columns and variables that are called like types, functions, or what is neither.
const COLUMNS: &[&str] = &[
    "name",
    "text",
    "json",
    "record",
    "date",
    "value",
    "uuid",
    "\"integer\"",
    "\"select\"",
    "\"a'b\"",
    "x",
    "ключ",
];

/// What makes no sense after a statement, some of which swallows what follows.
const NONSENSE: &[&str] =
    &[" FROM FROM", ")", " '", " \"", " /*", " $x$", " E'\\", " $1", " U&\"\\zzzz\"", " 1a"];

impl<'a> Writer<'a> {
    pub fn new(
        random: &'a mut Rng,
        value: &'a str,
        function: Function,
        backslashes: bool,
        number: u64,
    ) -> Self {
        Self { random, value, function, backslashes, number }
    }

    /// All of the case, and whether it should succeed.
    pub fn case(&mut self) -> (Vec<Send>, bool) {
        let fault = self.one(FAULTS);
        let number = self.number;
        let sends = match self.random.u8(..10) {
            0 => {
                let name = self.made_name();
                let (prepare, execute) = (self.prepare(&name), self.execute(&name, fault));
                if self.random.bool() {
                    vec![Send::Simple(prepare), Send::Simple(execute)]
                } else {
                    vec![Send::Simple(format!("{prepare};{execute}"))]
                }
            }
            1 => {
                let call = self.call("$1", Fault::None);
                vec![Send::Bind(format!("SELECT {call}"), self.text())]
            }
            2 => {
                let query = self.query(fault);
                vec![Send::Bind("SELECT app.run($1)".into(), query)]
            }
            // One statement, that is.
            3 => vec![Send::Extended(self.query(fault))],
            4 => {
                let query = self.query(fault);
                let declare = format!("DECLARE c{number} CURSOR WITH HOLD FOR {query}");
                vec![Send::Simple(declare)]
            }
            5 => {
                let query = self.query(fault);
                let name = self.made_name();
                vec![Send::Simple(format!("PREPARE {name} AS {query}"))]
            }
            _ => vec![Send::Simple(self.statement(fault, 0))],
        };
        let pad = if self.random.u8(..4) == 0 { self.padding() } else { String::new() };
        let pads = |send| match send {
            Send::Simple(sql) => Send::Simple(format!("{pad}{sql}")),
            Send::Extended(sql) => Send::Extended(format!("{pad}{sql}")),
            bind @ Send::Bind(..) => bind,
        };
        (sends.into_iter().map(pads).collect(), fault == Fault::None)
    }

    /// A comment, so that the views cut the statement somewhere.
    fn padding(&mut self) -> String {
        let filler = self.one(&["x", "é", "'", "/**/", "\""]);
        format!("/*{}*/", filler.repeat(self.random.usize(..1100) / filler.len()))
    }

    fn statement(&mut self, fault: Fault, depth: u32) -> String {
        let number = self.number;
        let statement = match self.random.u8(..if depth > 2 { 3 } else { 12 }) {
            4 => {
                let body = format!("BEGIN{}PERFORM {}; END", self.space(), self.some_call(fault));
                self.block(&body)
            }
            5 => {
                let inner = self.statement(fault, depth + 1);
                let body = format!("BEGIN EXECUTE {}; END", self.literal(&inner));
                self.block(&body)
            }
            6 => {
                let (variable, value) = (self.one(COLUMNS), self.expression(fault, 0));
                let call = self.call(variable, fault);
                let body = format!("DECLARE {variable} text := {value}; BEGIN PERFORM {call}; END");
                self.block(&body)
            }
            7 => {
                let query = self.query(fault);
                format!("SELECT length(query_to_xml({}, true, false, '')::text)", self.literal(&query))
            }
            8 => {
                let inner = self.statement(fault, depth + 1);
                format!("SELECT app.run({})", self.literal(&inner))
            }
            9 => format!("EXPLAIN{}ANALYZE {}", self.space(), self.query(fault)),
            10 => format!("CREATE TEMP TABLE t{number} AS {}", self.query(fault)),
            11 => format!("SELECT 1;{}{};SELECT 'x'", self.space(), self.query(fault)),
            _ => self.query(fault),
        };
        match fault {
            Fault::After if depth == 0 => format!("{statement}{}", self.one(NONSENSE)),
            Fault::Before if depth == 0 => format!("SELEC 'x', {statement}"),
            _ => statement,
        }
    }

    /// DO.
    fn block(&mut self, body: &str) -> String {
        let language = self.one(&["", "LANGUAGE plpgsql ", "language \"plpgsql\" "]);
        // It takes no literal with a type.
        let body = loop {
            let literal = self.literal(body);
            if !literal.starts_with('N') {
                break literal;
            }
        };
        format!("{}{}{language}{body}", self.cased("do"), self.space())
    }

    fn prepare(&mut self, name: &str) -> String {
        let call = self.call("$1", Fault::None);
        format!("{} {name}(text) AS SELECT {call}", self.cased("prepare"))
    }

    fn execute(&mut self, name: &str, fault: Fault) -> String {
        // It takes no subquery.
        let value = if fault == Fault::Cast {
            format!("({})::int::text", self.value_literal())
        } else {
            format!("coalesce({}, 'x')", self.value_literal())
        };
        format!("{}{}{name}{}({value})", self.cased("execute"), self.space(), self.gap())
    }

    /// The name of a prepared statement.
    fn made_name(&mut self) -> String {
        let number = self.number;
        match self.random.u8(..5) {
            0 => format!("p{number}{}", "p".repeat(70)),
            1 => format!("\"p{number}{}\"", "é".repeat(40)),
            2 => format!("\"p {number} ''\"\"(;\""),
            3 => format!("U&\"p{number}\\0061!\""),
            _ => format!("p{number}"),
        }
    }

    fn query(&mut self, fault: Fault) -> String {
        let select = format!("{}{}", self.cased("select"), self.space());
        let from = format!("{}{}", self.space(), self.cased("from"));
        match self.random.u8(..8) {
            0 => {
                let (column, value) = (self.one(COLUMNS), self.expression(fault, 0));
                format!("WITH v({column}) AS (SELECT {value}) {select}{}{from} v", self.call(column, fault))
            }
            1 => {
                let (column, value) = (self.one(COLUMNS), self.expression(fault, 0));
                format!("{select}{}{from} (VALUES ({value})) AS t({column})", self.call(column, fault))
            }
            2 => {
                let (column, value) = (self.one(COLUMNS), self.expression(fault, 0));
                let call = self.call(&format!("t.{column}"), fault);
                format!("{select}{call}{from} (SELECT {value} AS {column}) AS t")
            }
            3 => format!("{select}*{from} {}", self.some_call(fault)),
            4 => format!("{select}1 WHERE {} IS NOT NULL", self.some_call(fault)),
            5 => format!(
                "{select}(SELECT {}) AS a, 'x' AS b, {} AS c",
                self.some_call(fault),
                self.some_call(Fault::None)
            ),
            _ if fault == Fault::Division => format!("{select}{}, 1/0", self.some_call(fault)),
            _ => format!("{select}{}", self.some_call(fault)),
        }
    }

    /// A call with the value in it.
    fn some_call(&mut self, fault: Fault) -> String {
        let value = self.expression(fault, 0);
        self.call(&value, fault)
    }

    /// A call with an expression for the value.
    fn call(&mut self, value: &str, fault: Fault) -> String {
        let schema = if fault == Fault::NoSchema {
            String::new()
        } else {
            format!("{}{}.{}", self.identifier(self.function.schema), self.gap(), self.gap())
        };
        let name = self.identifier(self.function.name);
        let more = if fault == Fault::TooMany { ", 'one more'" } else { "" };
        let arrow = self.one(&["=>", ":="]);
        let arguments = match self.random.u8(..4) {
            0 => {
                let (key, name, actor) =
                    (self.identifier("key"), self.identifier("value"), self.identifier("actor"));
                let mut arguments = [
                    format!("{key} {arrow} 'any'"),
                    format!("{name} {arrow} {value}"),
                    format!("{actor} {arrow} 'x'"),
                ];
                self.random.shuffle(&mut arguments);
                arguments.join(&format!("{},", self.gap()))
            }
            1 => format!("'any',{}{value}{},actor{arrow}'x'", self.gap(), self.gap()),
            _ => format!("{}'any',{}{value}{},{}'x'", self.gap(), self.gap(), self.gap(), self.gap()),
        };
        format!("{schema}{name}{}({arguments}{more})", self.gap())
    }

    /// The value, as an expression of a text.
    fn expression(&mut self, fault: Fault, depth: u32) -> String {
        if depth == 0 {
            match fault {
                Fault::Cast => return format!("({})::int::text", self.expression(fault, 1)),
                Fault::DoubleQuoted => return format!("\"{}\"", self.value),
                _ => {}
            }
        }
        let inner =
            |it: &mut Self| if depth > 2 { it.value_literal() } else { it.expression(fault, depth + 1) };
        match self.random.u8(..14) {
            0 => format!("({})::text", inner(self)),
            1 => format!("CAST({} AS varchar)", inner(self)),
            2 => format!("coalesce({}, 'x')", inner(self)),
            3 => format!("(SELECT {})", inner(self)),
            4 => format!("({} || '')", inner(self)),
            5 => format!("(ARRAY['x', {}])[2]", inner(self)),
            6 => format!("CASE WHEN true THEN {} END", inner(self)),
            7 => format!("replace({}, '~', '')", inner(self)),
            8 => format!("(SELECT max(text) FROM (VALUES ({})) AS name(text))", inner(self)),
            _ => self.value_literal(),
        }
    }

    fn value_literal(&mut self) -> String {
        let text = self.text();
        self.literal(&text)
    }

    /// The value, with something around it.
    fn text(&mut self) -> String {
        let (before, after) = (self.one(JUNK), self.one(JUNK));
        format!("{before}{}{after}", self.value)
    }

    /// A literal of any text, in any form.
    fn literal(&mut self, text: &str) -> String {
        let parts = self.parts(text);
        let (quote, escape, end): (&str, fn(&mut Self, char) -> String, &str) = match self.random.u8(..8) {
            0 | 1 => {
                let tag = self.tag(text);
                return format!("{tag}{text}{tag}");
            }
            2 | 3 => ("E'", Self::escaped, ""),
            4 if !self.backslashes => ("U&'", Self::as_unicode, ""),
            5 if !self.backslashes => ("U&'", Self::as_unicode_of_its_own, " UESCAPE '!'"),
            6 if !self.backslashes => ("N'", Self::doubled, ""),
            _ if self.backslashes => ("'", Self::escaped, ""),
            _ => ("'", Self::doubled, ""),
        };
        let written: Vec<String> = parts
            .iter()
            .map(|part| part.chars().map(|character| escape(self, character)).collect())
            .collect();
        let between = self.one(&["'\n'", "' \n\t'", "' -- '\n '", "'\r\n'", "'--\n\n'"]);
        format!("{quote}{}'{end}", written.join(between))
    }

    /// A text in one part, or in some that go on in the next line.
    fn parts<'t>(&mut self, text: &'t str) -> Vec<&'t str> {
        if self.random.u8(..4) > 0 {
            return vec![text];
        }
        let mut at = self.random.usize(..=text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let (first, second) = text.split_at(at);
        vec![first, second]
    }

    /// A tag of a dollar quote that the text does not end.
    fn tag(&mut self, text: &str) -> String {
        const TAGS: &[&str] = &["$$", "$a$", "$_$", "$é1$", "$Value_2$"];
        let possible: Vec<&str> = TAGS.iter().copied().filter(|tag| !text.contains(tag)).collect();
        if possible.is_empty() || text.ends_with('$') {
            return format!("$t{}$", self.random.u32(..));
        }
        self.one(&possible).to_owned()
    }

    /// What is part of names and of none of the values may be written as a number; so the value stays to be found.
    fn may_be_number(&mut self, character: char) -> bool {
        matches!(character, '_' | '.' | '(' | ' ') && self.random.u8(..4) == 0
    }

    fn doubled(_: &mut Self, character: char) -> String {
        if character == '\'' { "''".into() } else { character.into() }
    }

    fn escaped(&mut self, character: char) -> String {
        match character {
            '\'' => self.one(&["''", r"\'", r"\x27", r"\047", r"\u0027"]).into(),
            '\\' => self.one(&[r"\\", r"\x5c", r"\134"]).into(),
            '\n' => self.one(&["\n", r"\n"]).into(),
            _ if self.may_be_number(character) => {
                let code = u32::from(character);
                match self.random.u8(..4) {
                    0 => format!("\\x{code:x}"),
                    1 => format!("\\{code:03o}"),
                    2 => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08X}"),
                }
            }
            _ => character.into(),
        }
    }

    fn as_unicode(&mut self, character: char) -> String {
        self.with_escapes(character, '\\')
    }

    fn as_unicode_of_its_own(&mut self, character: char) -> String {
        self.with_escapes(character, '!')
    }

    fn with_escapes(&mut self, character: char, escape: char) -> String {
        match character {
            '\'' => "''".into(),
            it if it == escape => format!("{escape}{escape}"),
            _ if self.may_be_number(character) => self.number_of(character, escape),
            _ => character.into(),
        }
    }

    fn number_of(&mut self, character: char, escape: char) -> String {
        let code = u32::from(character);
        if self.random.bool() { format!("{escape}{code:04x}") } else { format!("{escape}+{code:06X}") }
    }

    /// A name, in any spelling that means it.
    fn identifier(&mut self, name: &str) -> String {
        match self.random.u8(..6) {
            0 => self.cased(name),
            1 => format!("\"{name}\""),
            2 | 3 if !self.backslashes => {
                let (escape, end) = self.one(&[('\\', ""), ('!', " UESCAPE '!'"), ('*', "\nUESCAPE\t'*'")]);
                let written: String = name
                    .chars()
                    .map(|character| {
                        if self.random.u8(..4) == 0 {
                            self.number_of(character, escape)
                        } else {
                            character.into()
                        }
                    })
                    .collect();
                format!("U&\"{written}\"{end}")
            }
            _ => name.into(),
        }
    }

    /// A word in some capitals.
    fn cased(&mut self, word: &str) -> String {
        let capitals = self.random.u8(..3);
        word.chars()
            .map(|character| match capitals {
                0 => character,
                1 => character.to_ascii_uppercase(),
                _ if self.random.bool() => character.to_ascii_uppercase(),
                _ => character,
            })
            .collect()
    }

    fn space(&mut self) -> &'static str {
        const SPACES: &[&str] = &[
            " ",
            " ",
            " ",
            "\n",
            "\t ",
            "/**/",
            " /* ' */ ",
            " -- \"\n",
            "\r\n",
            "/* /* ( */ $a$ */",
            " --$$\n ",
        ];
        self.one(SPACES)
    }

    fn gap(&mut self) -> &'static str {
        if self.random.bool() { "" } else { self.space() }
    }

    fn one<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.random.usize(..choices.len())]
    }
}
