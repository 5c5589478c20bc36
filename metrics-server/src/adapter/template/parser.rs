//! Reads actions into a tree.

use super::TemplateError;
use super::functions::Function;
use super::lexer::{Piece, Spanned, Token};

/// How deep blocks and parentheses nest.
const DEPTH_MAX: usize = 32;

/// A part of a template.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    If { condition: Pipeline, then: Vec<Self>, otherwise: Vec<Self> },
    With { value: Pipeline, then: Vec<Self>, otherwise: Vec<Self> },
    Range { over: Pipeline, each: Vec<Self>, otherwise: Vec<Self> },
}

/// Commands, each fed with what the one before it gives.
#[derive(Clone, Debug)]
pub(super) struct Pipeline {
    /// `$x :=` or, for `range`, `$i, $x :=`.
    pub(super) declares: Vec<String>,
    pub(super) commands: Vec<Command>,
}

/// A function and its arguments, or a value.
#[derive(Clone, Debug)]
pub(super) enum Command {
    Value(Operand),
    Call(Function, Vec<Operand>),
}

/// A value, or how to get one.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    Dot,
    Field(Vec<String>),
    Variable(String, Vec<String>),
    String(String),
    Int(i64),
    Bool(bool),
    Pipeline(Box<Pipeline>),
}

/// Builds the tree; fields of the template's own argument must be among `fields`.
pub(super) fn parse(
    source: &str,
    pieces: &[Piece],
    fields: &[&str],
) -> Result<Vec<Node>, TemplateError> {
    let mut parser =
        Parser { source, pieces, fields, at: 0, variables: Vec::new(), root: true, depth: 0 };
    let (nodes, ended) = parser.block()?;
    match ended {
        None => Ok(nodes),
        Some(end) => Err(TemplateError::at(source, end.offset, end.unexpected())),
    }
}

struct Parser<'a> {
    source: &'a str,
    pieces: &'a [Piece],
    fields: &'a [&'a str],
    at: usize,
    variables: Vec<String>,
    /// Whether the dot is still the template's own argument.
    root: bool,
    depth: usize,
}

/// What ended a block.
struct End<'a> {
    offset: usize,
    /// The tokens after `else`; `None` for `end`.
    otherwise: Option<&'a [Spanned]>,
}

impl End<'_> {
    const fn unexpected(&self) -> &'static str {
        if self.otherwise.is_some() { "unexpected <<else>>" } else { "unexpected <<end>>" }
    }
}

impl<'a> Parser<'a> {
    fn error(&self, offset: usize, reason: impl Into<String>) -> TemplateError {
        TemplateError::at(self.source, offset, reason)
    }

    fn enter(&mut self, offset: usize) -> Result<(), TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error(offset, format!("nested more than {DEPTH_MAX} deep")));
        }
        Ok(())
    }

    /// Reads nodes up to the `end` or `else` that belongs to whoever asks, or the end of the template.
    fn block(&mut self) -> Result<(Vec<Node>, Option<End<'a>>), TemplateError> {
        let mut nodes = Vec::new();
        let pieces = self.pieces;
        while let Some(piece) = pieces.get(self.at) {
            self.at += 1;
            let (offset, tokens) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text.clone()));
                    continue;
                }
                Piece::Action { offset, tokens } => (*offset, tokens.as_slice()),
            };
            let Some(Spanned { token: Token::Word(word), .. }) = tokens.first() else {
                nodes.push(Node::Print(self.pipeline(offset, tokens, 1)?));
                continue;
            };
            let rest = &tokens[1..];
            match word.as_str() {
                "end" if rest.is_empty() => {
                    return Ok((nodes, Some(End { offset, otherwise: None })));
                }
                "else" => return Ok((nodes, Some(End { offset, otherwise: Some(rest) }))),
                "if" | "with" | "range" => nodes.push(self.control(word, offset, rest)?),
                "break" | "continue" | "define" | "template" | "block" | "end" => {
                    return Err(self.error(offset, format!("{word} is not understood here")));
                }
                _ => nodes.push(Node::Print(self.pipeline(offset, tokens, 1)?)),
            }
        }
        Ok((nodes, None))
    }

    fn control(
        &mut self,
        word: &str,
        offset: usize,
        tokens: &[Spanned],
    ) -> Result<Node, TemplateError> {
        self.enter(offset)?;
        let variables = self.variables.len();
        let pipeline = self.pipeline(offset, tokens, if word == "range" { 2 } else { 1 })?;
        let root = self.root;
        self.root = root && word == "if";
        let (body, ended) = self.block()?;
        self.root = root;
        let unclosed = || self.error(offset, format!("unclosed {word}"));
        let ended = ended.ok_or_else(unclosed)?;
        let otherwise = match ended.otherwise {
            None => Vec::new(),
            Some([]) => {
                let (nodes, ended) = self.block()?;
                let ended = ended.ok_or_else(|| self.error(offset, format!("unclosed {word}")))?;
                if ended.otherwise.is_some() {
                    return Err(self.error(ended.offset, "expected end; found <<else>>"));
                }
                nodes
            }
            Some([Spanned { token: Token::Word(again), .. }, rest @ ..])
                if again == word && word != "range" =>
            {
                vec![self.control(word, ended.offset, rest)?]
            }
            Some(_) => return Err(self.error(ended.offset, "unexpected words after else")),
        };
        self.variables.truncate(variables);
        self.depth -= 1;
        Ok(match word {
            "if" => Node::If { condition: pipeline, then: body, otherwise },
            "with" => Node::With { value: pipeline, then: body, otherwise },
            _ => Node::Range { over: pipeline, each: body, otherwise },
        })
    }

    fn pipeline(
        &mut self,
        offset: usize,
        tokens: &[Spanned],
        declares_max: usize,
    ) -> Result<Pipeline, TemplateError> {
        let (declares, tokens) = self.declarations(tokens, declares_max)?;
        let mut commands = Vec::new();
        let mut rest = tokens;
        loop {
            let (operands, after) = self.operands(offset, rest)?;
            commands.push(self.command(offset, operands, !commands.is_empty())?);
            match after {
                [] => break,
                [_, after @ ..] => rest = after,
            }
        }
        self.variables.extend(declares.iter().cloned());
        Ok(Pipeline { declares, commands })
    }

    fn declarations<'t>(
        &self,
        tokens: &'t [Spanned],
        declares_max: usize,
    ) -> Result<(Vec<String>, &'t [Spanned]), TemplateError> {
        let Some(at) = tokens.iter().position(|spanned| spanned.token == Token::Declare) else {
            return Ok((Vec::new(), tokens));
        };
        let wrong = || self.error(tokens[at].offset, "\":=\" without variables before it");
        let mut names = Vec::new();
        for part in tokens[..at].split(|spanned| spanned.token == Token::Comma) {
            match part {
                [Spanned { token: Token::Variable(name, fields), .. }]
                    if fields.is_empty() && !name.is_empty() =>
                {
                    names.push(name.clone());
                }
                _ => return Err(wrong()),
            }
        }
        if names.is_empty() || names.len() > declares_max {
            return Err(wrong());
        }
        Ok((names, &tokens[at + 1..]))
    }

    /// The operands of one command, and what follows from the next `|` on.
    fn operands<'t>(
        &mut self,
        offset: usize,
        tokens: &'t [Spanned],
    ) -> Result<(Vec<Placed>, &'t [Spanned]), TemplateError> {
        let mut operands = Vec::new();
        let mut rest = tokens;
        while let [Spanned { offset, token }, after @ ..] = rest {
            if *token == Token::Pipe {
                if after.is_empty() {
                    return Err(self.error(*offset, "missing command after \"|\""));
                }
                break;
            }
            rest = after;
            let word = match token {
                Token::Word(name) => self.word(*offset, name)?,
                Token::Dot => Word::Operand(Operand::Dot),
                Token::Field(path) => {
                    self.check_field(*offset, path, self.root)?;
                    Word::Operand(Operand::Field(path.clone()))
                }
                Token::Variable(name, path) => {
                    if name.is_empty() {
                        self.check_field(*offset, path, true)?;
                    } else if !self.variables.contains(name) {
                        return Err(self.error(*offset, format!("undefined variable \"${name}\"")));
                    }
                    Word::Operand(Operand::Variable(name.clone(), path.clone()))
                }
                Token::String(text) => Word::Operand(Operand::String(text.clone())),
                Token::Int(number) => Word::Operand(Operand::Int(*number)),
                Token::Open => {
                    let (inner, after) = self.parenthesis(*offset, rest)?;
                    rest = after;
                    Word::Operand(Operand::Pipeline(Box::new(inner)))
                }
                Token::Pipe | Token::Close | Token::Declare | Token::Comma => {
                    return Err(self.error(*offset, "unexpected punctuation in command"));
                }
            };
            operands.push((*offset, word));
        }
        if operands.is_empty() {
            return Err(self.error(offset, "missing value for command"));
        }
        Ok((operands, rest))
    }

    fn word(&self, offset: usize, name: &str) -> Result<Word, TemplateError> {
        match name {
            "true" => Ok(Word::Operand(Operand::Bool(true))),
            "false" => Ok(Word::Operand(Operand::Bool(false))),
            _ => match Function::named(name) {
                Some(function) => Ok(Word::Function(function)),
                None => Err(self.error(offset, format!("function {name:?} not defined"))),
            },
        }
    }

    fn check_field(&self, offset: usize, path: &[String], root: bool) -> Result<(), TemplateError> {
        match path.first() {
            Some(first) if root && !self.fields.contains(&first.as_str()) => {
                let known = self.fields.join(", .");
                Err(self.error(offset, format!("there is no field .{first}, only .{known}")))
            }
            _ => Ok(()),
        }
    }

    fn parenthesis<'t>(
        &mut self,
        offset: usize,
        tokens: &'t [Spanned],
    ) -> Result<(Pipeline, &'t [Spanned]), TemplateError> {
        self.enter(offset)?;
        let mut open = 1;
        let close = tokens.iter().position(|spanned| {
            match spanned.token {
                Token::Open => open += 1,
                Token::Close => open -= 1,
                _ => {}
            }
            open == 0
        });
        let close = close.ok_or_else(|| self.error(offset, "unclosed left paren"))?;
        let inner = self.pipeline(offset, &tokens[..close], 0)?;
        self.depth -= 1;
        Ok((inner, &tokens[close + 1..]))
    }

    fn command(
        &self,
        offset: usize,
        words: Vec<Placed>,
        fed: bool,
    ) -> Result<Command, TemplateError> {
        let mut words = words.into_iter();
        let (function, first) = match words.next() {
            Some((_, Word::Function(function))) => (function, None),
            Some((at, Word::Operand(operand))) => {
                let Some((at, _)) = words.next() else {
                    if fed {
                        return Err(self.error(at, "a value cannot be fed from a pipeline"));
                    }
                    return Ok(Command::Value(operand));
                };
                return Err(self.error(at, "can't give argument to non-function"));
            }
            None => return Err(self.error(offset, "missing value for command")),
        };
        let mut arguments: Vec<Operand> = first.into_iter().collect();
        for (_, word) in words {
            arguments.push(match word {
                Word::Operand(operand) => operand,
                Word::Function(function) => {
                    let call = Command::Call(function, Vec::new());
                    Operand::Pipeline(Box::new(Pipeline {
                        declares: Vec::new(),
                        commands: vec![call],
                    }))
                }
            });
        }
        let count = arguments.len() + usize::from(fed);
        if !function.takes(count) {
            let reason = format!("wrong number of arguments for {}: {count}", function.name());
            return Err(self.error(offset, reason));
        }
        Ok(Command::Call(function, arguments))
    }
}

/// A word and where it begins.
type Placed = (usize, Word);

enum Word {
    Function(Function),
    Operand(Operand),
}
