//! The files that a program imports: found among those that were compiled with it, never on this machine.

use super::Program;
use pocketci_pipeline::modules;
use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{Ctx, Error, Exception, Module, Result};
use std::collections::HashMap;
use std::rc::Rc;

/// The modules of one program; both halves of the engine's loader.
#[derive(Clone)]
pub(super) struct Modules {
    /// The program's own file.
    entry: Rc<str>,
    javascript: Rc<HashMap<String, String>>,
}

impl Modules {
    pub fn new(program: &Program) -> Self {
        let javascript = program
            .modules
            .iter()
            .map(|module| (module.name.clone(), module.javascript.clone()))
            .collect();
        Self {
            entry: program.file_name.as_str().into(),
            javascript: Rc::new(javascript),
        }
    }
}

impl Resolver for Modules {
    fn resolve<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<String> {
        let base = if base == &*self.entry { "" } else { base };
        modules::resolve(base, name, |name| {
            name == &*self.entry || self.javascript.contains_key(name)
        })
        .map_err(|wrong| Exception::throw_message(ctx, &wrong))
    }
}

impl Loader for Modules {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        match self.javascript.get(name) {
            Some(javascript) => Module::declare(ctx.clone(), name, javascript.as_str()),
            None => Err(Error::new_loading(name)),
        }
    }
}
