//! Loading a prior: from the page's first command to one that samples.

use dalle_decoder_worker::{Failure, download};
use dalle_files::config::ModelConfig;
use dalle_files::tensors::{InMemory, Tensors, WeightsError};
use dalle_kernels::prior::{PriorSizes, Sampler};
use dalle_kernels::storage::Storage;
use dalle_shared::{ModelFile, WorkerFailure, WorkerPart, files};

/// Downloads, checks and loads a model's prior.
///
/// # Errors
/// A download or file that failed, or sizes without kernels.
pub async fn load(base: &str, files: &[ModelFile]) -> Result<Sampler, Failure> {
    let config = download::config(base, files).await?;
    let file = download::listed(files, files::PRIOR)?;
    let bytes = download::file(base, file, WorkerPart::Weights).await?;
    let sizes = sizes(&config);
    if !Sampler::supports(&sizes) {
        let message = format!(
            "this model cannot run in a browser: its heads are {} wide, and a multiple of 16 is needed",
            sizes.head
        );
        return Err(Failure::new(WorkerFailure::WrongFile, message));
    }
    read(sizes, &bytes)
        .map_err(|error| Failure::new(WorkerFailure::WrongFile, format!("model.safetensors: {error}")))
}

fn sizes(config: &ModelConfig) -> PriorSizes {
    PriorSizes {
        layers: config.prior.layers,
        heads: config.prior.heads,
        head: config.prior.head_dim,
        conv_kernel: config.prior.conv_kernel,
        text: config.text_length,
        grid: config.geometry().grid,
        text_vocab: config.text_vocab,
        image_vocab: config.dvae.vocab,
    }
}

/// The prior with the weights of a safetensors file, in f32 as on a server's processor.
fn read(sizes: PriorSizes, file: &[u8]) -> Result<Sampler, WeightsError> {
    let mut source = InMemory::new(file)?;
    let mut tensors = Tensors::new(&mut source);
    let sampler = Sampler::new(sizes, Storage::F32, |parameter| {
        let mut values = Vec::with_capacity(parameter.length());
        tensors.take_into(&parameter.name, &parameter.shape, &mut values)?;
        Ok::<_, WeightsError>(values)
    })?;
    tensors.finish()?;
    Ok(sampler)
}
