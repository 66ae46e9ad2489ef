#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include "base/check.h"

namespace gimbal::comm {

// A mailbox from one sender to one receiver in this process: messages of a header and any number of
// items, in order. Neither side ever waits. The owner sizes it for all that can be under way, so
// that a full mailbox is a bug (GIMBAL_CHECK), not a state.
//
// Thread rule: one thread sends at a time and one receives; they may be different ones, and change
// under a lock. What was written before send() is visible after the receive() of it. Memory is
// reserved at once and touched only when used.
template <class Header, class Item>
class Channel {
  static_assert(std::is_trivially_copyable_v<Header> && std::is_trivially_copyable_v<Item>);

 public:
  // Requires: both at least 1. At most that many messages, and items of all of them, at once.
  Channel(std::size_t max_messages, std::size_t max_items)
      : max_messages_(max_messages),
        max_items_(max_items),
        message_memory_(memory_for<Message>(max_messages)),
        item_memory_(memory_for<Item>(max_items)),
        messages_(reinterpret_cast<Message*>(message_memory_.get())),
        items_(reinterpret_cast<Item*>(item_memory_.get())) {
    GIMBAL_CHECK(max_messages > 0 && max_items > 0);
  }

  // Whether a message of that many items would find room. Sender only.
  [[nodiscard]] bool has_room(std::size_t items) const {
    const std::uint64_t sent = sent_.load(std::memory_order_relaxed);
    return sent - received_.load(std::memory_order_acquire) < max_messages_ &&
           sent_items_ + items - received_items_.load(std::memory_order_acquire) <= max_items_;
  }

  void send(const Header& header, std::span<const Item> items) {
    GIMBAL_CHECK(has_room(items.size()), "a mailbox is full");
    const std::uint64_t sent = sent_.load(std::memory_order_relaxed);
    for (const Item& item : items)
      items_[sent_items_++ % max_items_] = item;
    messages_[sent % max_messages_] = {header, items.size()};
    sent_.store(sent + 1, std::memory_order_release);
  }

  // The next message's header, or null when there is none. Receiver only.
  [[nodiscard]] const Header* peek() const {
    const std::uint64_t received = received_.load(std::memory_order_relaxed);
    if (sent_.load(std::memory_order_acquire) == received) return nullptr;
    return &messages_[received % max_messages_].header;
  }

  // Takes the next message: overwrites `items` with its items. Requires: peek() is not null.
  Header receive(std::vector<Item>& items) {
    const std::uint64_t received = received_.load(std::memory_order_relaxed);
    const Message message = messages_[received % max_messages_];
    const std::uint64_t first = received_items_.load(std::memory_order_relaxed);
    items.clear();
    for (std::uint64_t i = first; i < first + message.items; ++i)
      items.push_back(items_[i % max_items_]);
    received_items_.store(first + message.items, std::memory_order_release);
    received_.store(received + 1, std::memory_order_release);
    return message.header;
  }

  // Whether nothing is under way. Any thread; exact for the receiver.
  [[nodiscard]] bool empty() const {
    return sent_.load(std::memory_order_acquire) == received_.load(std::memory_order_acquire);
  }

 private:
  struct Message {
    Header header;
    std::size_t items;
  };

  // Bytes, in which the objects begin to live when they are written: constructors with default
  // values would touch all of it.
  template <class T>
  [[nodiscard]] static std::unique_ptr<std::byte[]> memory_for(std::size_t count) {
    static_assert(alignof(T) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);
    return std::make_unique_for_overwrite<std::byte[]>(count * sizeof(T));
  }

  std::size_t max_messages_;
  std::size_t max_items_;
  std::unique_ptr<std::byte[]> message_memory_;
  std::unique_ptr<std::byte[]> item_memory_;
  Message* messages_;  // a ring
  Item* items_;        // a ring
  alignas(64) std::atomic<std::uint64_t> sent_{0};
  std::uint64_t sent_items_ = 0;  // the sender's
  alignas(64) std::atomic<std::uint64_t> received_{0};
  std::atomic<std::uint64_t> received_items_{0};
};

}  // namespace gimbal::comm
