//! Renders a tree.

use super::RenderError;
use super::functions::Function;
use super::parser::{Command, Node, Operand, Pipeline};
use super::value::Value;

/// Nodes and commands that one rendering may visit.
const STEPS_MAX: usize = 100_000;

/// Longest text that a rendering may write, and that a function may give.
const BYTES_MAX: usize = 1 << 20;

/// Bytes of all values that a rendering may copy or make.
const VALUE_BYTES_MAX: usize = 64 << 20;

pub(super) fn render(nodes: &[Node], fields: &[(&str, Value)]) -> Result<String, RenderError> {
    let mut renderer = Renderer {
        fields,
        dots: Vec::new(),
        variables: Vec::new(),
        steps: 0,
        value_bytes: 0,
        out: String::new(),
    };
    renderer.nodes(nodes)?;
    Ok(renderer.out)
}

struct Renderer<'a> {
    fields: &'a [(&'a str, Value)],
    /// What the dot is; the template's own argument when empty.
    dots: Vec<Value>,
    variables: Vec<(String, Value)>,
    steps: usize,
    value_bytes: usize,
    out: String,
}

impl Renderer<'_> {
    fn step(&mut self) -> Result<(), RenderError> {
        self.steps += 1;
        if self.steps > STEPS_MAX { Err(RenderError::Steps(STEPS_MAX)) } else { Ok(()) }
    }

    /// Passes on a value that was copied or made.
    fn counted(&mut self, value: Value) -> Result<Value, RenderError> {
        self.value_bytes += value.bytes();
        if self.value_bytes > VALUE_BYTES_MAX {
            return Err(RenderError::Values(VALUE_BYTES_MAX));
        }
        Ok(value)
    }

    fn write(&mut self, text: &str) -> Result<(), RenderError> {
        if self.out.len() + text.len() > BYTES_MAX {
            return Err(RenderError::Bytes(BYTES_MAX));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn nodes(&mut self, nodes: &[Node]) -> Result<(), RenderError> {
        for node in nodes {
            self.step()?;
            match node {
                Node::Text(text) => self.write(text)?,
                Node::Print(pipeline) => {
                    let value = self.pipeline(pipeline)?;
                    if pipeline.declares.is_empty() {
                        self.write(&value.to_string())?;
                    }
                }
                Node::If { condition, then, otherwise } => {
                    self.scoped(|own| {
                        let branch =
                            if own.pipeline(condition)?.is_true() { then } else { otherwise };
                        own.nodes(branch)
                    })?;
                }
                Node::With { value, then, otherwise } => {
                    self.scoped(|own| {
                        let value = own.pipeline(value)?;
                        if value.is_true() {
                            own.with_dot(value, then)
                        } else {
                            own.nodes(otherwise)
                        }
                    })?;
                }
                Node::Range { over, each, otherwise } => {
                    self.scoped(|own| own.range(over, each, otherwise))?;
                }
            }
        }
        Ok(())
    }

    /// Variables that are declared within go out of scope afterwards.
    fn scoped(
        &mut self,
        within: impl FnOnce(&mut Self) -> Result<(), RenderError>,
    ) -> Result<(), RenderError> {
        let variables = self.variables.len();
        within(self)?;
        self.variables.truncate(variables);
        Ok(())
    }

    fn with_dot(&mut self, dot: Value, nodes: &[Node]) -> Result<(), RenderError> {
        self.dots.push(dot);
        self.nodes(nodes)?;
        self.dots.pop();
        Ok(())
    }

    fn range(
        &mut self,
        over: &Pipeline,
        each: &[Node],
        otherwise: &[Node],
    ) -> Result<(), RenderError> {
        let elements: Vec<(Value, String)> = match self.value(over)? {
            Value::List(list) => list
                .into_iter()
                .zip(0..)
                .map(|(element, index)| (Value::Int(index), element))
                .collect(),
            Value::Map(map) => {
                map.into_iter().map(|(key, element)| (Value::String(key), element)).collect()
            }
            Value::Missing => Vec::new(),
            other => return Err(RenderError::Range(other.kind())),
        };
        if elements.is_empty() {
            return self.nodes(otherwise);
        }
        for (key, element) in elements {
            let element = Value::String(element);
            self.scoped(|own| {
                match over.declares.as_slice() {
                    [] => {}
                    [name] => own.variables.push((name.clone(), element.clone())),
                    [key_name, name, ..] => {
                        own.variables.push((key_name.clone(), key));
                        own.variables.push((name.clone(), element.clone()));
                    }
                }
                own.with_dot(element, each)
            })?;
        }
        Ok(())
    }

    /// The value of a pipeline; what it declares is declared.
    fn pipeline(&mut self, pipeline: &Pipeline) -> Result<Value, RenderError> {
        let value = self.value(pipeline)?;
        for name in &pipeline.declares {
            let value = self.counted(value.clone())?;
            self.variables.push((name.clone(), value));
        }
        Ok(value)
    }

    fn value(&mut self, pipeline: &Pipeline) -> Result<Value, RenderError> {
        let mut fed = None;
        for command in &pipeline.commands {
            self.step()?;
            fed = Some(match command {
                Command::Value(operand) => self.operand(operand)?,
                Command::Call(function, arguments) => self.call(*function, arguments, fed)?,
            });
        }
        Ok(fed.unwrap_or(Value::Missing))
    }

    fn call(
        &mut self,
        function: Function,
        arguments: &[Operand],
        fed: Option<Value>,
    ) -> Result<Value, RenderError> {
        let decides = match function {
            Function::And => Some(false),
            Function::Or => Some(true),
            _ => None,
        };
        let mut values = Vec::with_capacity(arguments.len() + 1);
        for argument in arguments {
            let value = self.operand(argument)?;
            let value = self.counted(value)?;
            if decides == Some(value.is_true()) {
                return Ok(value);
            }
            values.push(value);
        }
        values.extend(fed);
        if decides.is_some() {
            return Ok(values.pop().unwrap_or(Value::Missing));
        }
        let value = function.call(&values)?;
        if value.bytes() > BYTES_MAX {
            return Err(RenderError::Result { function: function.name(), bytes_max: BYTES_MAX });
        }
        self.counted(value)
    }

    fn operand(&mut self, operand: &Operand) -> Result<Value, RenderError> {
        match operand {
            Operand::Dot => match self.dots.last() {
                Some(dot) => Ok(dot.clone()),
                None => Err(no_field("", "query")),
            },
            Operand::Field(path) => match self.dots.last() {
                Some(dot) => select(dot.clone(), path),
                None => self.root(path),
            },
            Operand::Variable(name, path) if name.is_empty() => self.root(path),
            Operand::Variable(name, path) => {
                let found = self.variables.iter().rev().find(|(own, _)| own == name);
                let value = found.map_or(Value::Missing, |(_, value)| value.clone());
                select(value, path)
            }
            Operand::String(text) => Ok(Value::String(text.clone())),
            Operand::Int(number) => Ok(Value::Int(*number)),
            Operand::Bool(truth) => Ok(Value::Bool(*truth)),
            Operand::Pipeline(pipeline) => self.value(pipeline),
        }
    }

    fn root(&self, path: &[String]) -> Result<Value, RenderError> {
        let Some((first, rest)) = path.split_first() else { return Err(no_field("", "query")) };
        let field = self.fields.iter().find(|(name, _)| name == first);
        let (_, value) = field.ok_or_else(|| no_field(first, "query"))?;
        select(value.clone(), rest)
    }
}

fn no_field(field: &str, kind: &'static str) -> RenderError {
    RenderError::NoField { field: String::from(field), kind }
}

/// A map's fields are its keys; nothing else has fields.
fn select(value: Value, path: &[String]) -> Result<Value, RenderError> {
    path.iter().try_fold(value, |value, field| match value {
        Value::Map(mut map) => Ok(map.remove(field).map_or(Value::Missing, Value::String)),
        other => Err(no_field(field, other.kind())),
    })
}
