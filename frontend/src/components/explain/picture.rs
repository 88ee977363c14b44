//! A person's image beside its tokens, what the decoder makes of them and the error; and what the prior makes of its first rows.

use dalle_shared::files::ENCODER;
use leptos::html::Canvas;
use leptos::prelude::*;

use super::super::choose_file::ChooseFile;
use super::super::rows::Rows;
use super::super::start::{announcement, progress};
use super::super::text::text;
use crate::canvas::{CELL, Cells, draw_cells, draw_difference, draw_moment};
use crate::controller::controller;
use crate::explain::Colouring;
use crate::fidelity::Fidelity;
use crate::{actions, format};

#[component]
pub fn PictureLens() -> impl IntoView {
    let controller = controller();
    let (app, explain) = (controller.app, controller.app.explain);
    let can_encode = Memo::new(move |_| {
        app.model.with(|model| model.as_ref().is_some_and(|model| model.manifest.file(ENCODER).is_some()))
    });
    let has_picture = Memo::new(move |_| explain.picture.with(Option::is_some));
    view! {
        <Show
            when=move || can_encode.get()
            fallback=|| view! { <p class="hint">"This model has no encoder, so that it cannot turn an image into tokens."</p> }
        >
            <div class="choose-picture">
                <ChooseFile
                    name="picture"
                    class="secondary"
                    accept="image/*"
                    described_by="picture-privacy"
                    label=Signal::derive(move || {
                        if has_picture.get() { "Choose another" } else { "Choose an image" }.to_owned()
                    })
                    take=move |file| controller.upload_to_explain(file)
                />
                <p class="hint" id="picture-privacy">
                    "Or drop or paste one. It stays on your machine: your browser turns its middle square into tokens."
                </p>
            </div>
            <p class="hint" data-testid="picture-status">{text(move || progress(explain.upload.get()))}</p>
            <p class="unseen" role="status">{text(move || announcement(explain.upload.get()).to_owned())}</p>
            <Show when=move || has_picture.get()>
                <Comparison/>
                <Continue/>
            </Show>
        </Show>
    }
}

/// The image, its tokens, what the decoder makes of them, and the error.
#[component]
fn Comparison() -> impl IntoView {
    let explain = controller().app.explain;
    let [original, tokens, reconstruction, error] = std::array::from_fn(|_| NodeRef::<Canvas>::new());
    Effect::new(move |_| {
        if let (Some(canvas), Some(picture)) = (original.get(), explain.picture.get()) {
            draw_moment(&canvas, &picture.original, usize::MAX, explain.grid());
        }
    });
    Effect::new(move |_| {
        let (Some(canvas), Some(picture)) = (tokens.get(), explain.picture.get()) else { return };
        let (grid, colouring) = (explain.grid(), Colouring::Tiles);
        explain.codebook.with(|codebook| {
            draw_cells(
                &canvas,
                &Cells { tokens: &picture.subject.tokens, grid, colouring, codebook, steps: &[] },
            );
        });
    });
    Effect::new(move |_| {
        let (Some(canvas), Some(error)) = (reconstruction.get(), error.get()) else { return };
        if let (Some(picture), Some(pixels)) = (explain.picture.get(), explain.reconstruction.get()) {
            draw_moment(&canvas, &pixels, usize::MAX, explain.grid());
            draw_difference(&error, &pixels, &picture.original);
        }
    });
    let size = text(move || (explain.grid() * 8).to_string());
    let cells = text(move || (explain.grid() * CELL).to_string());
    let frame = move |canvas: NodeRef<Canvas>,
                      side: Signal<String>,
                      name: &'static str,
                      label: &'static str| {
        view! {
            <figure>
                <div class="plate">
                    <canvas class="mosaic" node_ref=canvas width=side height=side role="img" aria-label=label data-testid=name></canvas>
                </div>
                <p class="hint">{label}</p>
            </figure>
        }
    };
    let summary = text(move || {
        let (Some(picture), Some(pixels)) = (explain.picture.get(), explain.reconstruction.get()) else {
            return "Decoding…".to_owned();
        };
        let fidelity = Fidelity::of(&picture.original, &pixels);
        let closeness = match fidelity.psnr() {
            Some(psnr) => {
                format!("PSNR {psnr:.1} dB: values differ by {:.1} of 255 on average.", fidelity.mean())
            }
            None => "Both images are equal.".to_owned(),
        };
        let tokens = picture.subject.tokens.len();
        let bits = tokens * explain.vocab().max(2).next_power_of_two().ilog2() as usize;
        format!(
            "{closeness} {} of {} are {}, the pixels {}.",
            format::plural(tokens, "token"),
            format::plural(bits / tokens.max(1), "bit"),
            format::bytes(bits.div_ceil(8) as u64),
            format::bytes((pixels.len() / 4 * 3) as u64)
        )
    });
    let rows = move || {
        let (picture, pixels) = (explain.picture.get()?, explain.reconstruction.get()?);
        let row = pixels.len() / explain.grid();
        let rows = picture.original.chunks(row).zip(pixels.chunks(row)).enumerate();
        let rows = rows.map(|(index, (original, pixels))| {
            let fidelity = Fidelity::of(original, pixels);
            let psnr = fidelity.psnr().map_or("equal".to_owned(), |psnr| format!("{psnr:.1} dB"));
            view! {
                <tr>
                    <th scope="row">{index + 1}</th>
                    <td>{psnr}</td>
                    <td>{format!("{:.1}", fidelity.mean())}</td>
                    <td>{fidelity.most}</td>
                </tr>
            }
        });
        Some(rows.collect_view())
    };
    view! {
        <div class="frames">
            {frame(original, size, "picture-original", "Your image")}
            {frame(tokens, cells, "picture-tokens", "Its tokens")}
            {frame(reconstruction, size, "picture-reconstruction", "Decoded from them")}
            {frame(error, size, "picture-error", "The error")}
        </div>
        <p data-testid="picture-summary">{summary}</p>
        <details class="as-table">
            <summary>"The error as a table"</summary>
            <table data-testid="picture-table">
                <thead>
                    <tr>
                        <th scope="col">"Row of tokens"</th>
                        <th scope="col">"PSNR"</th>
                        <th scope="col">"Mean difference, of 255"</th>
                        <th scope="col">"Largest difference, of 255"</th>
                    </tr>
                </thead>
                <tbody>{rows}</tbody>
            </table>
        </details>
    }
}

/// The prior samples what is below the rows that are kept.
#[component]
fn Continue() -> impl IntoView {
    let controller = controller();
    let (app, explain) = (controller.app, controller.app.explain);
    let go = move |_| {
        if untrack(|| explain.has_prior()) {
            return controller.ask(explain.continue_picture());
        }
        // The server samples it, as the form says.
        if let Some(picture) = explain.picture.get_untracked() {
            let asked = actions::regenerate(
                controller,
                picture.subject.tokens.clone(),
                explain.kept_rows.get_untracked(),
            );
            if let Err(invalid) = asked {
                app.notice.set(Some(invalid.message));
            }
        }
    };
    let caption = text(move || {
        let caption = app.displayed.with(|prompt| prompt.as_ref().map(|prompt| prompt.caption.clone()));
        format!("The prior samples the rows below, for the caption “{}”.", caption.unwrap_or_default())
    });
    view! {
        <div class="continue">
            <div class="field">
                <Rows
                    id="picture-rows".to_owned()
                    rows=explain.kept_rows
                    most=Signal::derive(move || explain.grid().saturating_sub(1))
                    grid=Signal::derive(move || explain.grid())
                />
            </div>
            <button type="button" class="secondary" data-testid="picture-continue" on:click=go>"Continue it"</button>
            <p class="hint">{caption}</p>
        </div>
    }
}
