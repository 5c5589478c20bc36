//! Flags of programs whose place a subcommand takes that have nothing to act on here: accepted, so that existing manifests start, and
//! warned about when given.

use std::marker::PhantomData;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

/// Name, whether it is a boolean, and why it has no effect.
pub(crate) type Ignored = (&'static str, bool, &'static str);

/// The flags of one program.
pub(crate) trait IgnoredTable {
    const FLAGS: &'static [Ignored];
}

/// The flags that were given without effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IgnoredFlags<T>(Vec<usize>, PhantomData<T>);

impl<T: IgnoredTable> IgnoredFlags<T> {
    #[cfg(test)]
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|at| T::FLAGS[*at].0)
    }

    /// One warning per flag that was given.
    pub(crate) fn warn(&self) {
        for (name, _, reason) in self.0.iter().map(|at| T::FLAGS[*at]) {
            tracing::warn!(flag = format!("--{name}"), reason, "flag has no effect");
        }
    }
}

impl<T: IgnoredTable> Args for IgnoredFlags<T> {
    fn augment_args(command: Command) -> Command {
        command.args(T::FLAGS.iter().map(|(name, boolean, reason)| {
            let arg =
                Arg::new(*name).long(*name).hide(true).help(*reason).action(ArgAction::Append);
            // As in Go, the value of a boolean follows an equals sign or is left out.
            if *boolean { arg.num_args(0..=1).require_equals(true) } else { arg }
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<T: IgnoredTable> FromArgMatches for IgnoredFlags<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |(at, (name, _, _)): (usize, &Ignored)| {
            matches.value_source(name).is_some().then_some(at)
        };
        Ok(Self(T::FLAGS.iter().enumerate().filter_map(given).collect(), PhantomData))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
