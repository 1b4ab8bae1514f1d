//! What a pipeline's file means: TypeScript to JavaScript, positions, expressions. Pure; there is no I/O here.

pub mod config;
pub mod deep_stack;
pub mod diagnostic;
pub mod duration;
pub mod expression;
pub mod merge_patch;
pub mod modules;
pub mod multipart;
pub mod payload;
pub mod plan;
pub mod positions;
pub mod program;
pub mod yaml;
