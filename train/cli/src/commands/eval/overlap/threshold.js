// The slider of the overlap report: counts, marks and lists what a threshold removes.
const { pairs, noun } = JSON.parse(document.getElementById("pairs").textContent);
const slider = document.getElementById("threshold");
const result = document.getElementById("removed");
const list = document.getElementById("list");
const shown = [...document.querySelectorAll(".images li")];
const mean = (rows, of) => rows.reduce((sum, row) => sum + of(row), 0) / rows.length;
const psnr = (rows) => (10 * Math.log10((255 * 255) / mean(rows, (row) => row.squared_error))).toFixed(2);
const update = () => {
  const threshold = Number(slider.value);
  // Pairs are sorted nearest first, so the removed ones come first.
  const count = pairs.filter((pair) => pair.cosine >= threshold).length;
  const kept = pairs.slice(count);
  const share = ((100 * count) / pairs.length).toFixed(1);
  let text = `Cosine of at least ${threshold.toFixed(3)}: ${count} of ${pairs.length} ${noun} removed (${share} %).`;
  if (kept.length > 0 && pairs[0].squared_error !== null)
    text += ` Reconstruction: PSNR ${psnr(pairs)} dB before, ${psnr(kept)} dB after; SSIM ` +
      `${mean(pairs, (row) => row.ssim).toFixed(4)} before, ${mean(kept, (row) => row.ssim).toFixed(4)} after.`;
  result.textContent = text;
  shown.forEach((item, index) => item.classList.toggle("removed", index < count));
  const keys = pairs.slice(0, count).map((pair) => pair.validation + "\n").join("");
  list.href = "data:text/plain;charset=utf-8," + encodeURIComponent(keys);
};
slider.addEventListener("input", update);
update();
