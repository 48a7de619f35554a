#include "cuda/cuda_device.h"

#include <utility>

#include "cuda/architecture.h"
#include "cuda/graph.h"

namespace nemotron_h::cuda {
namespace {

constexpr size_t kSmall = size_t{16} << 10, kLarge = size_t{8} << 20;  // bytes of a pinned buffer
constexpr size_t kTicketBytes = kTickets * sizeof(unsigned);
constexpr int kSmallBuffers = 64;  // the ids and offsets of some decode steps that the GPU has yet to reach
constexpr int kLargeBuffers = 3;   // one filled, one copied, one to spare

thread_local Context* context = nullptr;

// Enough for the activations of a prefill chunk, which are freed too late to be had again from the system.
size_t max_cached(int index) { return DeviceMemory::total_bytes(index) / 16; }

}  // namespace

Context& current() { return *context; }
Overlap& overlap() { return context->overlap; }

// What a read has come to, on the completion thread.
struct CudaDevice::Reading {
  Done done;
  std::string submitted;               // what work before it threw
  cudaError_t status = cudaSuccess;    // the GPU's own errors
  Fault fault{};
};

CudaDevice::CudaDevice(const std::string& name, int index)
    : Device(Backend::cuda, name, std::make_unique<DeviceMemory>(index), max_cached(index)),
      index_(index),
      small_uploads_(kSmallBuffers, kSmall),
      large_uploads_(kLargeBuffers, kLarge),
      small_reads_(kSmallBuffers, kSmall),
      large_reads_(kLargeBuffers, kLarge),
      faults_(kSmallBuffers, 256) {
  static_assert(sizeof(Fault) <= 256);
  try {
    open();
  } catch (...) {
    close();
    throw;
  }
  const auto enter = [this] {
    check(cudaSetDevice(index_));
    context = &context_;
  };
  submission_.submit("device", enter);
  completion_.submit("device", enter);
}

CudaDevice::~CudaDevice() {
  cudaSetDevice(index_);
  submission_.stop();
  completion_.stop();
  trace_ = nullptr;
  close();
}

void CudaDevice::open() {
  check(cudaSetDevice(index_));
  check(cudaStreamCreateWithFlags(&context_.stream, cudaStreamNonBlocking));
  check(cudaEventCreateWithFlags(&freed_, cudaEventBlockingSync | cudaEventDisableTiming));
  context_.pool = device_memory().pool();
  context_.fault = static_cast<Fault*>(device_memory().take(sizeof(Fault)));
  if (!context_.fault) throw std::runtime_error("out of memory");
  check(cudaMemsetAsync(context_.fault, 0, sizeof(Fault), context_.stream));
  context_.tickets = static_cast<unsigned*>(device_memory().take(kTicketBytes));
  if (!context_.tickets) throw std::runtime_error("out of memory");
  check(cudaMemsetAsync(context_.tickets, 0, kTicketBytes, context_.stream));
  context_.workspace = static_cast<std::byte*>(device_memory().take(kWorkspace));
  if (!context_.workspace) throw std::runtime_error("out of memory");
  context_.architecture = architecture();
  check(cudaDeviceGetAttribute(&context_.processors, cudaDevAttrMultiProcessorCount, index_));
  device_memory().attach(submission_, context_.stream);
}

void CudaDevice::close() {
  if (context_.stream) cudaStreamSynchronize(context_.stream);
  device_memory().detach();
  pool().release_cached();
  if (context_.fault) device_memory().give_back(context_.fault, sizeof(Fault));
  if (context_.tickets) device_memory().give_back(context_.tickets, kTicketBytes);
  if (context_.workspace) device_memory().give_back(context_.workspace, kWorkspace);
  if (freed_) cudaEventDestroy(freed_);
  if (context_.stream) cudaStreamDestroy(context_.stream);
}

void CudaDevice::enqueue(const char* op, std::function<void()> work) {
  submission_.submit(op, [this, op, work = std::move(work)] {
    context_.op = op;
    try {
      if (trace_) trace_->begin(op);
      work();
      if (trace_) trace_->end();
    } catch (...) {
      // Work that follows may use what this did not make: it finds the record taken.
      cudaMemsetAsync(&context_.fault->claimed, 1, sizeof context_.fault->claimed, context_.stream);
      throw;
    }
  });
}

void CudaDevice::release_cached() {
  Device::release_cached();
  submission_.submit("free", [this] {
    check(cudaEventRecord(freed_, context_.stream));
    completion_.submit("free", [this] {
      cudaEventSynchronize(freed_);
      cudaMemPoolTrimTo(context_.pool, 0);
      cudaDeviceGraphMemTrim(index_);
    });
  });
}

void CudaDevice::upload(std::shared_ptr<const void> source, DType as, Tensor to) {
  enqueue("upload", [this, source = std::move(source), as, to = to.borrowed()] {
    Ring& ring = to.bytes() <= kSmall ? small_uploads_ : large_uploads_;
    const auto* host = static_cast<const std::byte*>(source.get());
    const auto parts = pieces(to, ring.bytes());
    const auto at = [&](const Piece& p) { return host + static_cast<size_t>(p.first) * size_of(as); };
    for (size_t i = 0; i < parts.size(); ++i) {
      if (i + 1 < parts.size())
        prefetch(at(parts[i + 1]), static_cast<size_t>(parts[i + 1].rows * parts[i + 1].length) * size_of(as));
      Buffer& buffer = ring.next();
      convert(as, at(parts[i]), to.dtype, buffer.data, parts[i].rows * parts[i].length);
      copy_to_device(to, parts[i], buffer.data, context_.stream);
      check(cudaEventRecord(buffer.copied, context_.stream));
    }
  });
}

void CudaDevice::read(Tensor from, DType as, void* host, Done done) {
  submission_.submit("read", [this, from = from.borrowed(), as, host, done = std::move(done)] {
    auto reading = std::make_shared<Reading>();
    reading->done = done;
    reading->submitted = submission_.take_error();
    const auto attempt = [&](auto&& work) {
      try {
        work();
      } catch (const std::exception& e) {
        if (reading->submitted.empty()) reading->submitted = std::string("read: ") + e.what();
      }
    };
    attempt([&] { fetch(from, as, static_cast<std::byte*>(host), reading); });
    attempt([&] { fetch_fault(reading); });  // whatever came before: it makes the record free for what follows
    completion_.submit("read", [reading] {
      const Report& report = reading->fault.report;
      // A kernel that failed is told first: what it was to refuse may be why. An error that work threw came after the
      // report, which would else not have been recorded.
      if (reading->status != cudaSuccess) reading->done("read: " + text(reading->status));
      else if (report.rule != Rule::none) reading->done(std::string(report.op) + ": " + describe(report));
      else if (!reading->submitted.empty()) reading->done(reading->submitted);
      else reading->done("");
    });
  });
}

// The elements, a piece at a time: the next is copied while the host reads one.
void CudaDevice::fetch(const Tensor& from, DType as, std::byte* host, const std::shared_ptr<Reading>& reading) {
  Ring& ring = from.bytes() <= kSmall ? small_reads_ : large_reads_;
  for (const Piece& piece : pieces(from, ring.bytes())) {
    Buffer& buffer = ring.next();
    copy_to_host(from, piece, buffer.data, context_.stream);
    check(cudaEventRecord(buffer.copied, context_.stream));
    buffer.unread = true;
    completion_.submit("read", [&buffer, piece, dtype = from.dtype, as, host, reading] {
      if (const auto status = cudaEventSynchronize(buffer.copied); status != cudaSuccess) reading->status = status;
      else convert(dtype, buffer.data, as, host + static_cast<size_t>(piece.first) * size_of(as), piece.rows * piece.length);
      buffer.unread = false;
      buffer.unread.notify_one();
    });
  }
}

void CudaDevice::fetch_fault(const std::shared_ptr<Reading>& reading) {
  Buffer& buffer = faults_.next();
  check(cudaMemcpyAsync(buffer.data, context_.fault, sizeof(Fault), cudaMemcpyDeviceToHost, context_.stream));
  check(cudaMemsetAsync(context_.fault, 0, sizeof(Fault), context_.stream));
  check(cudaEventRecord(buffer.copied, context_.stream));
  buffer.unread = true;
  completion_.submit("read", [&buffer, reading] {
    if (const auto status = cudaEventSynchronize(buffer.copied); status != cudaSuccess) reading->status = status;
    else reading->fault = *reinterpret_cast<const Fault*>(buffer.data);
    buffer.unread = false;
    buffer.unread.notify_one();
  });
}

std::shared_ptr<std::vector<Job>> CudaDevice::compile(std::shared_ptr<std::vector<Job>> recorded) {
  auto graph = std::make_shared<GraphExec>();
  submission_.submit("capture", [graph, recorded] { graph->capture(*recorded); });
  return std::make_shared<std::vector<Job>>(std::vector<Job>{{"capture", [graph] { graph->launch(); }}});
}

void CudaDevice::start_tracing() {
  submission_.submit("trace", [this] { trace_ = std::make_unique<StreamTrace>(); });
}

Trace CudaDevice::stop_tracing() {
  Trace trace;
  submission_.submit("trace", [&] {
    if (const auto ended = std::exchange(trace_, nullptr)) trace = ended->finish();
  });
  submission_.drain();
  return trace;
}

}  // namespace nemotron_h::cuda
