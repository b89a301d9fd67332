//! Artefacts of Maven: a folder of jars with all that they depend on, or an archive taken apart.

use std::fmt::Write as _;

use model::Result;
use serde::{Deserialize, Serialize};

use super::ACTION;
use crate::syntax::refuse;

/// The plugin that copies; pinned as everything else.
pub const PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1";

/// What is taken from a repository of Maven.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maven {
    /// `GROUP:ARTIFACT:VERSION`: copied to `jars/` with all that they depend on at run time.
    #[serde(default)]
    pub jars: Vec<String>,
    /// `GROUP:ARTIFACT` (the artifact may be `*`): what they depend on and is left out.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// `GROUP:ARTIFACT:VERSION` of a BOM that chooses versions.
    #[serde(default)]
    pub bom: Vec<String>,
    /// `GROUP:ARTIFACT:VERSION:tar.gz[:CLASSIFIER]`: taken apart, without its first folder.
    #[serde(default)]
    pub archives: Vec<String>,
}

impl Maven {
    /// Checks what was read.
    pub fn check(&self, artefact: &str) -> Result<()> {
        let all = [
            (&self.jars, 3..=3),
            (&self.exclude, 2..=2),
            (&self.bom, 3..=3),
            (&self.archives, 4..=5),
        ];
        for (coordinates, counts) in all {
            for coordinate in coordinates {
                let parts: Vec<_> = coordinate.split(':').collect();
                let is_plain = |part: &&str| {
                    !part.is_empty()
                        && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-*".contains(c))
                };
                if !counts.contains(&parts.len()) || !parts.iter().all(is_plain) {
                    return Err(refuse(
                        ACTION,
                        artefact,
                        format!("{coordinate:?} is no coordinate"),
                    ));
                }
            }
        }
        if let Some(other) =
            self.archives.iter().find(|one| one.split(':').nth(3) != Some("tar.gz"))
        {
            return Err(refuse(
                ACTION,
                artefact,
                format!("{other}: only tar.gz can be taken apart"),
            ));
        }
        if self.jars.is_empty() && self.archives.is_empty() {
            return Err(refuse(ACTION, artefact, "neither jars nor archives"));
        }
        Ok(())
    }

    /// Says what it is, for people.
    pub fn label(&self) -> String {
        let all: Vec<_> = self.jars.iter().chain(&self.archives).map(String::as_str).collect();
        format!("maven {}", all.join(" "))
    }

    /// Writes the project whose dependencies are what is wanted.
    pub fn project(&self) -> String {
        let mut xml = "<project>\n\
            <modelVersion>4.0.0</modelVersion>\n<groupId>lifeboat</groupId>\n\
            <artifactId>artefact</artifactId>\n<version>1</version>\n<packaging>pom</packaging>\n"
            .to_owned();
        let three = |coordinate: &str| {
            let mut parts = coordinate.split(':');
            let mut next = || parts.next().unwrap_or_default().to_owned();
            format!(
                "<groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version>",
                next(),
                next(),
                next()
            )
        };
        if !self.bom.is_empty() {
            xml.push_str("<dependencyManagement><dependencies>\n");
            for bom in &self.bom {
                let what = three(bom);
                let _ = writeln!(
                    xml,
                    "<dependency>{what}<type>pom</type><scope>import</scope></dependency>"
                );
            }
            xml.push_str("</dependencies></dependencyManagement>\n");
        }
        let mut exclusions = String::new();
        for exclusion in &self.exclude {
            let (group, artifact) = exclusion.split_once(':').unwrap_or((exclusion, "*"));
            let _ = write!(
                exclusions,
                "<exclusion><groupId>{group}</groupId><artifactId>{artifact}</artifactId></exclusion>"
            );
        }
        xml.push_str("<dependencies>\n");
        for jar in &self.jars {
            let what = three(jar);
            let _ = writeln!(
                xml,
                "<dependency>{what}<exclusions>{exclusions}</exclusions></dependency>"
            );
        }
        xml.push_str("</dependencies>\n</project>\n");
        xml
    }
}
