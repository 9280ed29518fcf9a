// Memory on the device that frees itself, and CUDA errors as exceptions: for programs, which end with the message.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace cdna_cuda {

inline void require(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

template <class T>
class DeviceArray {
 public:
  DeviceArray() = default;
  explicit DeviceArray(std::size_t count) : count_(count) {
    if (count == 0) return;
    void* pointer = nullptr;
    require(cudaMalloc(&pointer, count * sizeof(T)), "cudaMalloc");
    data_ = static_cast<T*>(pointer);
  }
  explicit DeviceArray(const std::vector<T>& host) : DeviceArray(host.size()) {
    if (count_ == 0) return;
    require(cudaMemcpy(data_, host.data(), bytes(), cudaMemcpyHostToDevice), "copy to the device");
  }
  DeviceArray(DeviceArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), count_(std::exchange(other.count_, 0)) {}
  DeviceArray& operator=(DeviceArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(data_); }

  T* data() const { return data_; }
  std::size_t size() const { return count_; }
  std::size_t bytes() const { return count_ * sizeof(T); }

  // Every byte, of the whole array or of its first. Has happened on return, so that any stream may use it.
  void fill(int byte) const { fill(byte, bytes()); }
  void fill(int byte, std::size_t first_bytes) const {
    if (first_bytes == 0) return;
    require(cudaMemset(data_, byte, first_bytes), "cudaMemset");
    require(cudaStreamSynchronize(nullptr), "cudaMemset");
  }
  std::vector<T> host() const {
    std::vector<T> result(count_);
    if (count_ != 0) require(cudaMemcpy(result.data(), data_, bytes(), cudaMemcpyDeviceToHost), "copy from the device");
    return result;
  }

 private:
  T* data_ = nullptr;
  std::size_t count_ = 0;
};

}  // namespace cdna_cuda
