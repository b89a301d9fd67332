//! Writes the golden repository anew, for a change of the format that is meant.

use anyhow::Context as _;
use chaos_tests::golden::{folder, key_file, make};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (objects, description) = Box::pin(make()).await?;
    let folder = folder();
    if folder.exists() {
        std::fs::remove_dir_all(&folder).context("remove the golden repository")?;
    }
    for (path, bytes) in objects {
        let path = folder.join("objects").join(path);
        std::fs::create_dir_all(path.parent().context("an object has a path")?)?;
        std::fs::write(path, bytes)?;
    }
    key_file().save(&folder.join("key"))?;
    std::fs::write(folder.join("description.txt"), description)?;
    Ok(())
}
