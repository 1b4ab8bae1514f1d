//! What a type's name means: one of ours, or an image, which is a resource of another type, and so on down.
//!
//! A type that a pipeline declares may have the name of one of ours and be built from it; so a declaration does not count
//! beneath itself. Each type's image is found once a job.

use super::built_in::BuiltIn;
use super::job::Resources;
use super::key::Key;
use super::{ResourceSpec, StepIo, Stop, TypeSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

/// How the actions of a resource are carried out.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    BuiltIn(BuiltIn),
    /// By the scripts of an image.
    Image {
        /// The engine's name for it.
        image: String,
    },
}

/// A resource whose type is known.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) kind: Kind,
    /// With the type's defaults beneath.
    pub(super) source: Map<String, Value>,
    /// Tells this type, and the version of its image, from others.
    pub(super) identity: Value,
    pub(super) privileged: bool,
}

/// What a declared type is made of.
#[derive(Clone)]
pub(super) struct TypeImage {
    kind: Kind,
    identity: Value,
}

impl Resources {
    /// What the resource is; `above` are the types whose image is being looked for.
    pub(super) async fn known(
        &self,
        resource: &ResourceSpec,
        above: &[String],
        io: &StepIo,
    ) -> Result<Known, Stop> {
        let name = &resource.type_name;
        if let Some(declared) = self.declared(name, above) {
            if declared.privileged && !self.setup().allow_privileged {
                return Err(Stop::Errored(format!(
                    "resource type {name:?} is privileged, which this agent does not allow; its operator may start it with --allow-privileged"
                )));
            }
            let image = self.type_image(declared, above, io).await?;
            let mut source = declared.defaults.clone();
            source.extend(resource.source.clone());
            let identity = json!({ "image": image.identity, "privileged": declared.privileged });
            return Ok(Known {
                kind: image.kind,
                source,
                identity,
                privileged: declared.privileged,
            });
        }
        match BuiltIn::named(name) {
            Some(built_in) => Ok(Known {
                kind: Kind::BuiltIn(built_in),
                source: resource.source.clone(),
                identity: json!(built_in.name()),
                privileged: false,
            }),
            None => Err(Stop::Errored(unknown(name, above))),
        }
    }

    fn declared(&self, name: &str, above: &[String]) -> Option<&TypeSpec> {
        let mut types = self.setup().types.iter();
        types
            .find(|one| one.name == name)
            .filter(|_| !above.iter().any(|above| above == name))
    }

    /// The names of the types that one is built on, down to one of ours or round in a circle.
    fn beneath(&self, declared: &TypeSpec) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let mut next = Some(declared);
        while let Some(one) = next.filter(|one| !names.contains(&one.name)) {
            names.push(one.name.clone());
            next = self.declared(&one.type_name, &[]);
        }
        names
    }

    /// Boxed, as a type may be built on others.
    fn type_image<'a>(
        &'a self,
        declared: &'a TypeSpec,
        above: &'a [String],
        io: &'a StepIo,
    ) -> BoxFuture<'a, Result<TypeImage, Stop>> {
        async move {
            // Beneath one that it is built on, it may mean something else.
            let beneath = self.beneath(declared);
            let relevant = above.iter().filter(|above| beneath.contains(above));
            let relevant: Vec<&str> = relevant.map(String::as_str).collect();
            let place = format!("{}\n{}", declared.name, relevant.join("\n"));
            let cell = self.type_cell(&place);
            let found = cell
                .get_or_try_init(|| async {
                    let mut above = above.to_vec();
                    above.push(declared.name.clone());
                    self.find_image(declared, &above, io).await
                })
                .await;
            found.cloned()
        }
        .boxed()
    }

    async fn find_image(
        &self,
        declared: &TypeSpec,
        above: &[String],
        io: &StepIo,
    ) -> Result<TypeImage, Stop> {
        let resource = ResourceSpec {
            name: declared.name.clone(),
            type_name: declared.type_name.clone(),
            source: declared.source.clone(),
        };
        let params = Value::Object(declared.params.clone());
        let known = self.known(&resource, above, io).await?;
        if let Kind::BuiltIn(BuiltIn::Mock) = known.kind
            && known.source.get("mirror_self") == Some(&Value::Bool(true))
        {
            // Its image is itself, and ours has none.
            return Ok(TypeImage {
                kind: known.kind,
                identity: known.identity,
            });
        }
        if self.setup().driver.engine().is_none() {
            return Err(Stop::Errored(format!(
                "resource type {:?} is a container image, which the native driver cannot run; set the pipeline with --driver docker, or use the built-in git, time or mock",
                declared.name
            )));
        }
        let version = self.newest(&known, io).await?;
        let key = Key::of(&known, &version, &params);
        let (image, _) = self
            .image_of_known(&known, &resource.name, &version, &params, io)
            .await?;
        Ok(TypeImage {
            kind: Kind::Image { image },
            identity: json!(key.as_str()),
        })
    }
}

fn unknown(name: &str, above: &[String]) -> String {
    if above.iter().any(|above| above == name) {
        let mut circle = above.join(" → ");
        circle.push_str(&format!(" → {name}"));
        return format!(
            "resource types are built on each other in a circle: {circle}; one of them must be built on a built-in type"
        );
    }
    format!(
        "resource type {name:?} is neither declared under resource_types nor built in (git, time, registry-image, mock)"
    )
}
