// Errors of failed allocations: they name the op and the number of bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

namespace fractalops {

struct NoMemory : std::bad_alloc {
  double bytes;
  explicit NoMemory(double bytes) : bytes(bytes) {}
};

// Allocates an uninitialized array (count).
template <typename T>
std::unique_ptr<T[]> scratch(int64_t count) {
  try {
    return std::make_unique_for_overwrite<T[]>(static_cast<std::size_t>(count));
  } catch (const std::bad_alloc&) {
    throw NoMemory(static_cast<double>(count) * sizeof(T));
  }
}

// The name of an op as a template argument.
template <std::size_t length>
struct OpName {
  char text[length];
  constexpr OpName(const char (&name)[length]) {
    for (std::size_t i = 0; i < length; ++i) text[i] = name[i];
  }
};

[[noreturn]] inline void fail_without_memory(const char* op, const std::string& what) {
  throw std::runtime_error(std::string(op) + ": not enough memory" + what);
}

// Calls an op, and puts the op's name into out-of-memory errors. Python raises them as `RuntimeError`, like torch's
// own.
template <OpName op, typename Result, typename... Arguments>
struct Named {
  template <Result (*function)(Arguments...)>
  static Result call(Arguments... arguments) {
    try {
      return function(std::forward<Arguments>(arguments)...);
    } catch (const NoMemory& error) {
      char size[64];
      std::snprintf(size, sizeof(size), ": tried to allocate %.0f bytes", error.bytes);
      fail_without_memory(op.text, size);
    } catch (const std::bad_alloc&) {
      fail_without_memory(op.text, "");
    } catch (const std::runtime_error& error) {
      // The stable ABI does not pass on the reason. This call fails for no other reason than a lack of memory.
      if (std::string(error.what()).find("\"aten::contiguous\"") == std::string::npos) throw;
      fail_without_memory(op.text, " for a contiguous copy of an argument");
    }
  }
};

// Used only for its return type, because nvcc does not find the specialization of a class template that has a name as
// its argument.
template <OpName op, typename Result, typename... Arguments>
Named<op, Result, Arguments...> named(Result (*)(Arguments...));

}  // namespace fractalops

// The arguments that `library.impl` takes for an op whose function has the same name.
#define FRACTALOPS_OP(op) #op, TORCH_BOX((&decltype(::fractalops::named<#op>(&op))::template call<&op>))
