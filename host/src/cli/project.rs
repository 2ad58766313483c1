//! A solution's files on this computer: its folder, its manifest, its component.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::exit::{Exit, Failure};

const MANIFEST: &str = "solution.toml";

/// Where a solution's files are, and the text of its manifest.
#[derive(Debug)]
pub struct Project {
    pub folder: PathBuf,
    pub manifest_path: PathBuf,
    pub manifest: String,
}

impl Project {
    /// `path` is the folder, or the manifest in it.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        // `solution.toml` rather than `./solution.toml`, in all that is said about it.
        let named = path.strip_prefix("./").unwrap_or(path);
        let manifest_path = match named {
            _ if path == Path::new(".") => PathBuf::from(MANIFEST),
            named if path.is_dir() => named.join(MANIFEST),
            named => named.to_path_buf(),
        };
        let manifest = fs::read_to_string(&manifest_path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Failure::new(
                Exit::Failed,
                "no-manifest",
                format!("there is no solution at {}: {MANIFEST} is missing", path.display()),
            )
            .next("name a solution's folder, or begin one with `tandem new NAME`"),
            _ => Failure::file("read", &manifest_path, &e),
        })?;
        let folder = match manifest_path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
            _ => PathBuf::from("."),
        };
        Ok(Self { folder, manifest_path, manifest })
    }

    /// Where the component is, from `component` in the manifest. Only that line is read here; whether the rest is right is
    /// for the check or the node to say.
    pub fn component_path(&self) -> Result<PathBuf, Failure> {
        let manifest: toml::Table = toml::from_str(&self.manifest).map_err(|e| {
            Failure::failed(
                "invalid-manifest",
                format!("{} is no TOML: {e}", self.manifest_path.display()),
            )
        })?;
        let named = manifest.get("component").and_then(toml::Value::as_str);
        let in_folder = self.manifest_path.parent().unwrap_or(Path::new(""));
        named.map(|path| in_folder.join(path)).ok_or_else(|| {
            Failure::failed(
                "no-component",
                format!("{} does not say where its component is", self.manifest_path.display()),
            )
            .next("add `component = \"target/wasm32-wasip2/release/NAME.wasm\"` at its top")
        })
    }

    pub fn component(&self) -> Result<Vec<u8>, Failure> {
        let path = self.component_path()?;
        fs::read(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Failure::failed(
                "not-built",
                format!("the component {} is not there", path.display()),
            )
            .next(format!("run `tandem build {}`", self.folder.display())),
            _ => Failure::file("read", &path, &e),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(manifest: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MANIFEST), manifest).unwrap();
        let path = folder.path().to_path_buf();
        (folder, path)
    }

    #[test]
    fn a_folder_and_its_manifest_name_the_same_project() {
        let (_kept, folder) = project("component = \"out/x.wasm\"\n");
        for path in [folder.clone(), folder.join(MANIFEST)] {
            let project = Project::open(&path).unwrap();
            assert_eq!(project.component_path().unwrap(), folder.join("out/x.wasm"));
        }
    }

    #[test]
    fn what_is_missing_is_told_with_what_to_do() {
        let nothing = tempfile::tempdir().unwrap();
        assert_eq!(Project::open(nothing.path()).unwrap_err().code, "no-manifest");

        let (_kept, folder) = project("component = \"x.wasm\"\n");
        let failure = Project::open(&folder).unwrap().component().unwrap_err();
        assert_eq!(failure.code, "not-built");
        assert!(failure.next.unwrap().contains("tandem build"));

        let (_kept, folder) = project("name = \"x\"\n");
        assert_eq!(Project::open(&folder).unwrap().component().unwrap_err().code, "no-component");

        let (_kept, folder) = project("name = \n");
        let failure = Project::open(&folder).unwrap().component().unwrap_err();
        assert_eq!(failure.code, "invalid-manifest");
    }
}
