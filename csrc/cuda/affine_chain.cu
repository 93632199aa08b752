// affine_chain on NVIDIA GPUs: the op's two functions, each in two forms, and its registration. The kernels are in
// affine_chain_sequential.h and affine_chain_scan.h; affine_chain_plan.h chooses between them. Shapes are checked in
// fractalops/ops/affine_chain.py and, for direct calls of the op, here. Nothing waits for the device, and launches do
// not depend on values, so a CUDA graph can capture them.
#include "../affine_chain.h"

#include <limits>
#include <optional>
#include <tuple>

#include "affine_chain_plan.h"
#include "launch.h"

namespace fractalops::cuda {
namespace {

template <typename T>
AffineChain<T> describe(const Tensor& matrix, const Tensor& index, const Tensor& start) {
  return {data<T>(matrix),
          nullptr,
          index.const_data_ptr(),
          data<T>(start),
          static_cast<int>(index.element_size()),
          static_cast<int>(matrix.size(0)),
          index.size(0),
          index.size(1),
          false};
}

Form form_of(int64_t form, const Tensor& index, bool backward) {
  STD_TORCH_CHECK(form >= 0 && form <= 2, "affine_chain: form must be 0, 1 or 2, got ", form);
  return form == 0 ? choose_form(index.size(0), index.size(1), backward) : static_cast<Form>(form);
}

// Allocates a workspace of `count` elements of T, as a tensor of bytes.
template <typename T>
Tensor workspace(const Tensor& like, int64_t count) {
  return allocate(like, {count * static_cast<int64_t>(sizeof(T))}, ScalarType::Byte);
}

// Returns the state with which each chunk of the sequences starts, (B, chunks, D).
template <typename T, int D, bool Adjoint>
Tensor find_chunk_states(const Launcher& launcher, AffineChain<T> chain, const Chunks& chunks, const Tensor& like,
                         const T* grad /* (B, T, D); adjoint only */, const T* start /* (B, D), or null for zeros */) {
  const int64_t items = chain.sequences * chunks.count;
  Tensor totals = workspace<AffineMap<T, D>>(like, items);  // (B, chunks)
  Tensor states = workspace<T>(like, items * D);            // (B, chunks, D)
  auto* totals_data = static_cast<AffineMap<T, D>*>(totals.mutable_data_ptr());
  const int64_t warp_maps = scan_warps * (D * D + D), tile = scan_threads * scan_run;
  SharedPlan<T> shared(warp_maps + (Adjoint ? tile * D : 0), tile);
  chain.table_in_shared = plan_table<T, D>(chain, chunks.length, shared);
  launcher.launch(affine_chain_scan_compose<T, D, Adjoint>, items, scan_threads, shared.bytes, chain, chunks, grad,
                  totals_data);
  launcher.launch(affine_chain_scan_link<T, D, Adjoint>, chain.sequences, scan_threads,
                  SharedPlan<T>(warp_maps, 0).bytes, chunks.count, totals_data, start,
                  static_cast<T*>(states.mutable_data_ptr()));
  return states;
}

template <typename T, int D>
void forward_sequential(const Launcher& launcher, AffineChain<T> chain, T* points) {
  SharedPlan<T> shared(lanes * odd_pitch(forward_steps<T> * D), lanes * odd_pitch(forward_steps<T>));
  chain.table_in_shared = plan_table<T, D>(chain, lanes * chain.length, shared);
  launcher.launch(affine_chain_forward_sequential<T, D>, grid(divide_up(chain.sequences, lanes)), lanes, shared.bytes,
                  chain, points);
}

template <typename T, int D>
void forward_scan(const Launcher& launcher, AffineChain<T> chain, const Tensor& like, T* points) {
  const Chunks chunks = choose_chunks(chain.sequences, chain.length);
  const T* states = chain.start;       // (B, chunks, D)
  std::optional<Tensor> chunk_states;  // (B, chunks, D)
  if (chunks.count > 1) {
    chunk_states = find_chunk_states<T, D, false>(launcher, chain, chunks, like, nullptr, chain.start);
    states = static_cast<const T*>(chunk_states->const_data_ptr());
  }
  const int threads = choose_scan_threads(chain.length);
  SharedPlan<T> shared(scan_warps * (D * D + D) + threads * scan_run * D, threads * scan_run);
  chain.table_in_shared = plan_table<T, D>(chain, chunks.length, shared);
  launcher.launch(affine_chain_forward_scan<T, D>, grid(chain.sequences * chunks.count), threads, shared.bytes, chain,
                  chunks, states, points);
}

// The arrays that the backward reads and writes.
template <typename T>
struct Gradients {
  const T* grad;    // (B, T, D)
  const T* points;  // (B, T, D)
  T* start;         // (B, D)
};

// The slots of the workspace with the sums by map, and their number. Both forms of the backward return them.
struct Slots {
  Tensor sums;  // (count, N, D, D + 1) doubles, as bytes
  int64_t count;

  const double* data() const { return static_cast<const double*>(sums.const_data_ptr()); }
};

template <typename T, int D>
Slots new_slots(const Tensor& like, const AffineChain<T>& chain, const SumPlan& plan) {
  return {workspace<double>(like, plan.slots() * chain.maps * sum_elements(D)), plan.slots()};
}

template <typename T, int D>
Slots backward_sequential(const Launcher& launcher, AffineChain<T> chain, const Tensor& like,
                          const Gradients<T>& gradients) {
  SharedPlan<T> shared(2 * lanes * odd_pitch(backward_steps<T> * D), lanes * odd_pitch(backward_steps<T>));
  const SumPlan plan = plan_sums<T, D>(chain, 1, divide_up(chain.sequences, lanes), shared);
  chain.table_in_shared = plan_table<T, D>(chain, lanes * chain.length, shared);
  Slots slots = new_slots<T, D>(like, chain, plan);
  launcher.launch(affine_chain_backward_sequential<T, D>, plan.blocks, lanes, shared.bytes, chain, gradients.grad,
                  gradients.points, static_cast<double*>(slots.sums.mutable_data_ptr()), plan.in_shared,
                  gradients.start);
  return slots;
}

template <typename T, int D>
Slots backward_scan(const Launcher& launcher, AffineChain<T> chain, const Tensor& like, const Gradients<T>& gradients) {
  const Chunks chunks = choose_chunks(chain.sequences, chain.length);
  const T* states = nullptr;           // (B, chunks, D), or null for zeros
  std::optional<Tensor> chunk_states;  // (B, chunks, D)
  if (chunks.count > 1) {
    chunk_states = find_chunk_states<T, D, true>(launcher, chain, chunks, like, gradients.grad, nullptr);
    states = static_cast<const T*>(chunk_states->const_data_ptr());
  }
  const int threads = choose_scan_threads(chain.length);
  const int64_t tile = threads * scan_run;
  SharedPlan<T> shared(scan_warps * (D * D + D) + 2 * tile * D, tile);
  const SumPlan plan = plan_sums<T, D>(chain, threads / lanes, chain.sequences * chunks.count, shared);
  chain.table_in_shared = plan_table<T, D>(chain, chunks.length, shared);
  Slots slots = new_slots<T, D>(like, chain, plan);
  launcher.launch(affine_chain_backward_scan<T, D>, plan.blocks, threads, shared.bytes, chain, chunks, gradients.grad,
                  gradients.points, states, static_cast<double*>(slots.sums.mutable_data_ptr()), plan.adders,
                  plan.in_shared, gradients.start);
  return slots;
}

// The kernels number the maps by int. They replace an index out of range by the nearest map, so there must be one.
void check_count(const Tensor& matrix) {
  STD_TORCH_CHECK(matrix.size(0) > 0 && matrix.size(0) <= std::numeric_limits<int>::max(),
                  "affine_chain: matrix must have 1 to 2^31 - 1 maps, got ", matrix.size(0));
}

Tensor affine_chain_fwd(const Tensor& matrix_in, const Tensor& offset_in, const Tensor& index_in,
                        const Tensor& start_in, int64_t form_in) {
  check_forward(matrix_in, offset_in, index_in, start_in);
  check_count(matrix_in);
  const Launcher launcher("affine_chain", matrix_in);
  const Tensor matrix = torch::stable::contiguous(matrix_in);  // (N, D, D)
  const Tensor offset = torch::stable::contiguous(offset_in);  // (N, D)
  const Tensor index = torch::stable::contiguous(index_in);    // (B, T)
  const Tensor start = torch::stable::contiguous(start_in);    // (B, D)
  const Form form = form_of(form_in, index, false);
  Tensor points = allocate(matrix, {index.size(0), index.size(1), matrix.size(1)});
  if (points.numel() == 0) return points;
  with_matrix(matrix, [&]<typename T, int D>(T, std::integral_constant<int, D>) {
    AffineChain<T> chain = describe<T>(matrix, index, start);
    chain.offset = data<T>(offset);
    if (form == Form::sequential)
      forward_sequential<T, D>(launcher, chain, mutable_data<T>(points));
    else
      forward_scan<T, D>(launcher, chain, matrix, mutable_data<T>(points));
  });
  return points;
}

std::tuple<Tensor, Tensor, Tensor> affine_chain_bwd(const Tensor& grad_in, const Tensor& matrix_in,
                                                    const Tensor& index_in, const Tensor& start_in,
                                                    const Tensor& points_in, int64_t form_in) {
  check_backward(grad_in, matrix_in, index_in, start_in, points_in);
  check_count(matrix_in);
  const Launcher launcher("affine_chain", matrix_in);
  const Tensor grad = torch::stable::contiguous(grad_in);      // (B, T, D)
  const Tensor matrix = torch::stable::contiguous(matrix_in);  // (N, D, D)
  const Tensor index = torch::stable::contiguous(index_in);    // (B, T)
  const Tensor start = torch::stable::contiguous(start_in);    // (B, D)
  const Tensor points = torch::stable::contiguous(points_in);  // (B, T, D)
  const Form form = form_of(form_in, index, true);
  Tensor grad_matrix = allocate_like(matrix);
  Tensor grad_offset = allocate(matrix, {matrix.size(0), matrix.size(1)});
  Tensor grad_start = allocate_like(start);
  if (points.numel() == 0) {
    for (Tensor* zeros : {&grad_matrix, &grad_offset, &grad_start}) torch::stable::zero_(*zeros);
    return {grad_matrix, grad_offset, grad_start};
  }
  with_matrix(matrix, [&]<typename T, int D>(T, std::integral_constant<int, D>) {
    const AffineChain<T> chain = describe<T>(matrix, index, start);
    const Gradients<T> gradients{data<T>(grad), data<T>(points), mutable_data<T>(grad_start)};
    const Slots slots = form == Form::sequential ? backward_sequential<T, D>(launcher, chain, matrix, gradients)
                                                 : backward_scan<T, D>(launcher, chain, matrix, gradients);
    launcher.launch(sum_slots<T, D>, divide_up(int64_t(chain.maps) * sum_elements(D), lanes), dim3(lanes, slot_parts),
                    lanes * slot_parts * sizeof(double), slots.data(), slots.count, chain.maps,
                    mutable_data<T>(grad_matrix), mutable_data<T>(grad_offset));
  });
  return {grad_matrix, grad_offset, grad_start};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fractalops, CUDA, library) {
  library.impl(FRACTALOPS_OP(affine_chain_fwd));
  library.impl(FRACTALOPS_OP(affine_chain_bwd));
}

}  // namespace fractalops::cuda
