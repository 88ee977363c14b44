//! Classes and functions that a checkpoint should not name.
//!
//! The parser executes nothing, whatever a pickle names. But Python's `torch.load` would execute it, so a file that names a function
//! that runs programs or reads files is not what its user believes it to be.

/// Modules whose functions run programs, load code, or use files and the network.
const DANGEROUS: &[&str] = &[
    "_pickle",
    "_posixsubprocess",
    "_thread",
    "aiohttp",
    "ast",
    "asyncio",
    "bdb",
    "cloudpickle",
    "code",
    "codeop",
    "commands",
    "concurrent",
    "cProfile",
    "ctypes",
    "dill",
    "distutils",
    "doctest",
    "ensurepip",
    "ftplib",
    "gc",
    "glob",
    "http",
    "httplib",
    "httpx",
    "idlelib",
    "imp",
    "importlib",
    "inspect",
    "io",
    "joblib",
    "lib2to3",
    "linecache",
    "marshal",
    "multiprocessing",
    "nt",
    "operator",
    "os",
    "pdb",
    "pickle",
    "pip",
    "pkgutil",
    "platform",
    "popen2",
    "posix",
    "profile",
    "pty",
    "pydoc",
    "requests",
    "runpy",
    "setuptools",
    "shelve",
    "shutil",
    "signal",
    "site",
    "smtplib",
    "socket",
    "sqlite3",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "timeit",
    "trace",
    "urllib",
    "urllib2",
    "venv",
    "webbrowser",
    "xmlrpc",
    "zipimport",
];
/// Parts of harmless packages that do the same.
const DANGEROUS_PARTS: &[&str] = &[
    "numpy.load",
    "numpy.testing",
    "numpy.f2py",
    "torch.hub",
    "torch.jit",
    "torch.load",
    "torch.package",
    "torch.serialization",
];
/// Types of Python itself. All its other names are functions.
const BUILT_IN_TYPES: &[&str] = &[
    "bool",
    "bytearray",
    "bytes",
    "complex",
    "dict",
    "float",
    "frozenset",
    "int",
    "list",
    "long",
    "object",
    "range",
    "set",
    "slice",
    "str",
    "tuple",
    "type",
    "unicode",
    "xrange",
];

/// Whether a class or function, `module.name`, neither runs programs nor reads files.
pub fn is_harmless(class: &str) -> bool {
    let (module, rest) = class.split_once('.').unwrap_or((class, ""));
    let is_in =
        |part: &&str| class.strip_prefix(*part).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    match module {
        "builtins" | "__builtin__" => BUILT_IN_TYPES.contains(&rest),
        // Python 2 and NumPy's arrays.
        "copy_reg" | "copyreg" => rest == "_reconstructor",
        "types" => rest == "SimpleNamespace",
        _ => !DANGEROUS.contains(&module) && !DANGEROUS_PARTS.iter().any(is_in),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_harmless_and_code_is_not() {
        for harmless in [
            "argparse.Namespace",
            "numpy.core.multiarray._reconstruct",
            "numpy.dtype",
            "collections.defaultdict",
            "pathlib.PosixPath",
            "omegaconf.dictconfig.DictConfig",
            "__main__.Config",
            "builtins.set",
            "torch.Size",
            "torchvision.models.ResNet",
        ] {
            assert!(is_harmless(harmless), "{harmless}");
        }
        for dangerous in [
            "os.system",
            "posix.system",
            "subprocess.Popen",
            "builtins.eval",
            "__builtin__.execfile",
            "builtins.getattr",
            "torch.hub.load",
            "numpy.testing._private.utils.runstring",
            "types.FunctionType",
            "operator.attrgetter",
        ] {
            assert!(!is_harmless(dangerous), "{dangerous}");
        }
    }
}
